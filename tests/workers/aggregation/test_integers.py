"""The mean of integer tensors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.workers.aggregation.integers import mean_of_integers


@given(
    start=st.integers(-(2**62), 2**62),
    apart=st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=4),
    samples=st.lists(st.integers(1, 10**9), min_size=4, max_size=4),
)
def test_large_integers_that_are_near_each_other_have_their_exact_mean(
    start: int, apart: list[int], samples: list[int]
) -> None:
    values = [start + each for each in apart]
    weights = [number / sum(samples[: len(values)]) for number in samples[: len(values)]]
    found = int(mean_of_integers([np.array([each], np.int64) for each in values], weights)[0])
    shares = [Fraction(weight) for weight in weights]
    mean = sum(share * each for share, each in zip(shares, values, strict=True)) / sum(shares)
    # a sum in float64 may round another way where the mean is a half
    assert found == round(mean) or abs(abs(found - mean) - Fraction(1, 2)) < Fraction(1, 100)


@given(
    values=st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=4),
    dtype=st.sampled_from([np.int64, np.uint64]),
)
def test_integers_far_from_each_other_have_a_mean_between_them(values: list[int], dtype: type[np.generic]) -> None:
    if dtype is np.int64:
        values = [each - 2**63 for each in values]
    found = int(mean_of_integers([np.array([each], dtype) for each in values], [1 / len(values)] * len(values))[0])
    slack = 2**12  # what a float64 does not tell apart at 2^64
    assert min(values) - slack <= found <= max(values) + slack
    assert abs(found - Fraction(sum(values), len(values))) <= slack


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
