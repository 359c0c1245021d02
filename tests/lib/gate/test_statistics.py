"""The paired tests against published and computed figures."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.gate import lower_bound, mcnemar
from heliograph.gate.mcnemar import EXACT


@pytest.mark.parametrize(("gained", "lost", "better"), [
    (0, 0, 1.0), (5, 0, 1 / 32), (0, 5, 1.0), (3, 3, 42 / 64), (8, 2, 56 / 1024), (1, 0, 0.5),
])  # fmt: skip
def test_small_numbers_are_those_of_the_binomial(gained: int, lost: int, better: float) -> None:
    assert mcnemar(gained, lost).p_better == pytest.approx(better, rel=1e-12)


def test_a_published_table() -> None:
    """Agresti, Categorical Data Analysis, approval ratings: 150 and 86 changed their mind; z = 4.17 by the score."""
    found = mcnemar(150, 86)
    assert found.p_better == pytest.approx(1.8e-5, rel=0.1)
    assert found.p_worse > 0.9999


@settings(max_examples=25)
@given(st.integers(0, 80), st.integers(0, 80))
def test_the_test_is_that_of_exact_sums(gained: int, lost: int) -> None:
    number = gained + lost
    exact = sum(math.comb(number, each) for each in range(gained, number + 1)) / 2**number
    found = mcnemar(gained, lost)
    assert found.p_better == pytest.approx(exact, rel=1e-9, abs=1e-300)
    assert found.p_worse == pytest.approx(mcnemar(lost, gained).p_better)
    assert found.p_better + mcnemar(lost, gained).p_better >= 1 - 1e-12


@pytest.mark.parametrize("share", [0.5, 0.505, 0.51, 0.515])
def test_the_approximation_follows_the_exact_sum(share: float) -> None:
    exact, beyond = EXACT, EXACT + 2
    one = mcnemar(round(share * exact), exact - round(share * exact)).p_better
    other = mcnemar(round(share * beyond), beyond - round(share * beyond)).p_better
    assert other == pytest.approx(one, rel=0.03)
    assert mcnemar(600_000, 400_000).p_better < 1e-300


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        mcnemar(-1, 3)


@pytest.mark.parametrize("values", [2, 3, 1000])
@pytest.mark.parametrize("number", [200, 5000])
def test_the_bound_of_a_mean_is_that_of_theory(values: int, number: int) -> None:
    rng = random.Random(values)
    found = [rng.randrange(values) / values for _ in range(number)]
    mean = sum(found) / number
    spread = math.sqrt(sum((each - mean) ** 2 for each in found) / number / number)
    got = lower_bound(found, resamples=1000)
    assert got.mean == pytest.approx(mean)
    assert got.bound == pytest.approx(mean - 1.645 * spread, abs=0.25 * spread)
    assert lower_bound(found, 0.99, resamples=1000).bound < got.bound


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Of a coin that gives 0.3 in truth, at most some 5 % of the bounds lie above it."""
    rng = random.Random(5)
    above = 0
    for seed in range(200):
        throws = [float(rng.random() < 0.3) for _ in range(300)]
        above += lower_bound(throws, resamples=200, seed=seed).bound > 0.3
    assert above <= 22


def test_the_order_of_samples_says_nothing() -> None:
    found = [random.Random(1).random() for _ in range(300)]
    assert lower_bound(found, resamples=100) == lower_bound(sorted(found), resamples=100)
    few = [0.0, 1.0, -1.0] * 100
    assert lower_bound(few) == lower_bound(sorted(few))


def test_equal_models_have_a_bound_of_zero() -> None:
    assert lower_bound([0.0] * 50) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf, 1.0]])
def test_differences_that_say_nothing_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        lower_bound(bad)


@pytest.mark.parametrize("confidence", [0.4, 1.0, math.nan])
def test_a_confidence_that_bounds_nothing_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        lower_bound([1.0], confidence)
