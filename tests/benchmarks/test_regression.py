"""The rule that separates a regression from noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.declaration import Better
from benchmarks.regression import FEWEST, LAST, SHARE, judge, judge_against

figures = st.floats(0.001, 1e6)
pasts = st.lists(figures, min_size=FEWEST, max_size=LAST)
betters = st.sampled_from(["lower", "higher"])


def test_twice_as_slow_is_worse_and_half_is_better() -> None:
    past = [10.0, 10.1, 9.9, 10.0]
    assert judge(20, past, "lower").verdict == "worse"
    assert judge(5, past, "lower").verdict == "better"
    assert judge(20, past, "higher").verdict == "better"
    assert judge(20, past, "lower").change == pytest.approx(1.0)


def test_a_jump_of_a_noisy_figure_is_no_regression() -> None:
    assert judge(16, [8, 12, 9, 14, 10, 7, 13], "lower").verdict == "same"


def test_a_small_change_of_a_steady_figure_is_no_regression() -> None:
    assert judge(10.5, [10.0] * LAST, "lower").verdict == "same"


def test_one_bad_run_does_not_move_the_baseline() -> None:
    assert judge(15, [10, 10.2, 9.8, 10, 400], "lower").verdict == "worse"


def test_close_to_zero_the_slack_decides() -> None:
    past = [0.1, 0.0, -0.1, 0.0]
    assert judge(1.5, past, "lower", slack=2).verdict == "same"
    assert judge(1.5, past, "lower").verdict == "worse"
    assert judge(1.5, past, "lower").change is None


def test_only_the_last_runs_count() -> None:
    assert judge(10, [1.0] * 50 + [10.0] * LAST, "lower").verdict == "same"


@given(figures, st.lists(figures, max_size=FEWEST - 1), betters)
def test_few_runs_give_no_verdict(value: float, past: list[float], better: Better) -> None:
    assert judge(value, past, better).verdict == "new"


@given(figures, pasts, betters, st.randoms())
def test_the_order_of_the_runs_does_not_matter(value: float, past: list[float], better: Better, rng: object) -> None:
    mixed = list(past)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert judge(value, past, better) == judge(value, mixed, better)


@given(figures, pasts)
def test_worse_where_lower_is_better_is_better_where_higher_is(value: float, past: list[float]) -> None:
    opposite = {"worse": "better", "better": "worse", "same": "same"}
    assert opposite[judge(value, past, "lower").verdict] == judge(value, past, "higher").verdict


@given(figures, pasts, betters)
def test_within_the_share_nothing_is_worse(baseline: float, past: list[float], better: Better) -> None:
    middle = judge(1, past, better).baseline
    assert middle is not None
    assert judge(middle * (1 + 0.9 * SHARE), past, better).verdict == "same"
    assert judge(middle * (1 - 0.9 * SHARE), past, better).verdict == "same"


@given(st.floats(1, 1000), st.lists(st.floats(-0.04, 0.04), min_size=FEWEST, max_size=LAST), st.floats(-0.04, 0.04))
def test_noise_of_a_few_per_cent_is_never_a_regression(level: float, noise: list[float], now: float) -> None:
    past = [level * (1 + each) for each in noise]
    assert judge(level * (1 + now), past, "lower").verdict == "same"
    assert judge(level * 1.5, past, "lower").verdict == "worse"


@given(figures, pasts, betters, st.sampled_from([0.25, 0.5, 2.0, 1024.0]))
def test_the_unit_does_not_matter(value: float, past: list[float], better: Better, scale: float) -> None:
    scaled = judge(value * scale, [each * scale for each in past], better)
    assert scaled.verdict == judge(value, past, better).verdict


def test_against_one_run_neither_median_may_lie_within_the_other_spread() -> None:
    assert judge_against(20, (19, 21), 10, (9, 11), "lower").verdict == "worse"
    assert judge_against(20, (9, 21), 10, (9, 11), "lower").verdict == "same"
    assert judge_against(20, (19, 21), 10, (9, 25), "lower").verdict == "same"
    assert judge_against(11, (11, 11), 10, (10, 10), "lower").verdict == "same"
