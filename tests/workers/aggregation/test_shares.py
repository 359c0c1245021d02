"""The share of one participant in a round has a bound; below it every edge counts by its samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.workers.aggregation.shares import capped_samples, largest_share

SAMPLES = st.lists(st.integers(1, 100_000_000), min_size=1, max_size=40)


@given(SAMPLES, st.none() | st.floats(0.001, 1.0))
def test_no_share_is_above_the_largest_and_nobody_gains_over_another(samples: list[int], wanted: float | None) -> None:
    claimed = {f"edge-{number}": float(each) for number, each in enumerate(samples)}
    found = capped_samples(claimed, wanted)
    most = largest_share(len(claimed), wanted)
    total = sum(found.values())
    assert all(0 < each <= claimed[edge] for edge, each in found.items())
    assert max(found.values()) <= most * total * (1 + 1e-9)
    within = max(claimed.values()) <= most * sum(claimed.values())
    assert not within or found == claimed
    ordered = sorted(claimed, key=lambda edge: claimed[edge])
    assert [found[edge] for edge in ordered] == sorted(found.values())


@pytest.mark.parametrize(
    "sizes",
    [[50, 50], [1, 99], [70, 20, 10], [60, 21, 11, 8], [1000] * 3 + [10] * 7, [100 // n for n in range(1, 11)]],
    ids=str,
)
def test_an_ordinary_split_is_not_touched(sizes: list[int]) -> None:
    claimed = {str(number): float(size) for number, size in enumerate(sizes)}
    assert capped_samples(claimed) == claimed


def test_one_of_twenty_that_claims_ninety_million_gets_little_more_than_a_quarter() -> None:
    claimed = {str(number): 80.0 for number in range(19)} | {"liar": 90_000_000.0}
    found = capped_samples(claimed)
    assert found["liar"] / sum(found.values()) == pytest.approx(0.28, abs=0.001)
    assert capped_samples(claimed, 1.0) == claimed
    equal = capped_samples(claimed, 0.001)
    assert len(set(equal.values())) == 1


def test_the_default_leaves_one_and_two_participants_alone() -> None:
    assert [largest_share(number) for number in (1, 2)] == [1, 1]
    assert largest_share(4) == 0.625
    assert largest_share(100) == largest_share(10_000) == 0.25
