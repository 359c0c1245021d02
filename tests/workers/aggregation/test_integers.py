"""The mean of integer tensors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.workers.aggregation.integers import mean_of_integers


@given(
    values=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2), min_size=1, max_size=4),
    samples=st.lists(st.integers(1, 10**9), min_size=4, max_size=4),
)
def test_it_is_exact_for_all_integers(values: list[list[int]], samples: list[int]) -> None:
    used = samples[: len(values)]
    weights = [number / sum(used) for number in used]
    found = mean_of_integers([np.array(each, np.int64) for each in values], weights)
    shares = [Fraction(weight) for weight in weights]
    for at in range(2):
        mean = sum(share * each[at] for share, each in zip(shares, values, strict=True)) / sum(shares)
        # sums of small integers are in float64 as ever: they may round another way where the mean is a half
        assert found[at] == round(mean) or abs(abs(found[at] - mean) - Fraction(1, 2)) < Fraction(1, 10**6)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8, np.bool_])
def test_a_value_on_which_all_agree_stays(dtype: type[np.generic]) -> None:
    ends = [0, 1] if dtype is np.bool_ else [np.iinfo(dtype).min, np.iinfo(dtype).max, 1]
    block = np.array(ends, dtype)
    found = mean_of_integers([block.copy() for _ in range(7)], [1 / 7] * 7)  # the weights sum to 0.9999999999999998
    assert found.dtype == dtype
    assert found.tolist() == ends


def test_halves_go_to_even_and_booleans_to_the_majority() -> None:
    half = [0.5, 0.5]
    assert mean_of_integers([np.array([1, 2, -1]), np.array([2, 3, 0])], half).tolist() == [2, 2, 0]
    assert mean_of_integers([np.array([2**53 + 1]), np.array([2**53 + 4])], half).tolist() == [2**53 + 2]
    assert mean_of_integers([np.array([True, True]), np.array([False, True])], [0.4, 0.6]).tolist() == [False, True]
