"""The pace of a link: windows follow the rate that was measured, and waiting follows what is under way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.link_pace import FIRST_WINDOW, LEAST_WINDOW, LONGEST_ALLOWANCE, MOST_WINDOW, TARGET, LinkPace


def carry(pace: LinkPace, rate: float, round_trip: float, windows: int) -> float:
    """Send so many whole windows over a link; return the seconds that this took."""
    took = 0.0
    for _ in range(windows):
        seconds = round_trip + pace.window / rate
        pace.acknowledged(pace.window, seconds)
        took += seconds
    return took


@pytest.mark.parametrize("rate", [2_500, 12_500, 125_000, 1_250_000])
@pytest.mark.parametrize("round_trip", [0.02, 0.6, 6.0])
def test_windows_come_to_fill_a_link_and_to_last_no_longer_than_they_must(rate: float, round_trip: float) -> None:
    pace = LinkPace()
    pace.answered(round_trip)
    carry(pace, rate, round_trip, 20)
    sent = pace.window
    seconds = carry(pace, rate, round_trip, 1)
    assert sent / seconds > 0.6 * rate or sent == MOST_WINDOW
    assert seconds <= max(TARGET, 3 * round_trip) * 1.2


def test_a_fast_link_has_its_largest_window_after_a_few() -> None:
    pace = LinkPace()
    carry(pace, 500e6, 0.0005, 9)
    assert pace.window == MOST_WINDOW


def test_a_window_that_takes_ten_times_as_long_is_soon_a_tenth() -> None:
    pace = LinkPace()
    carry(pace, 125_000, 0.05, 10)
    before = pace.window
    carry(pace, 12_500, 0.05, 4)
    assert pace.window < before / 8


def test_what_was_under_way_when_a_connection_ended_was_too_much() -> None:
    pace = LinkPace()
    for _ in range(20):
        pace.lost()
    assert pace.window == LEAST_WINDOW
    pace = LinkPace()
    pace.lost()
    assert pace.window == FIRST_WINDOW / 2


def test_a_few_bytes_that_were_quickly_there_change_no_window() -> None:
    pace = LinkPace()
    for _ in range(100):
        pace.acknowledged(200, 0.01)
    assert pace.window == FIRST_WINDOW


def test_the_round_trip_is_that_without_others_bytes_in_front() -> None:
    pace = LinkPace()
    for seconds in (0.6, 3.0, 0.5, 4.0, 2.5):
        pace.answered(seconds)
    assert 0.5 <= pace.round_trip < 0.52


def test_an_answer_behind_many_bytes_may_be_late_and_never_for_ever() -> None:
    pace = LinkPace()
    assert pace.allowance(0) == 0
    assert pace.allowance(16_000) == pytest.approx(8.0)  # nothing is known of the link
    carry(pace, 125_000, 0.0, 5)
    assert pace.allowance(125_000) == pytest.approx(2.0, rel=0.1)
    assert pace.allowance(10**12) == LONGEST_ALLOWANCE


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1e5)), max_size=50), st.floats(1e-6, 100))
def test_no_measurement_leads_out_of_the_bounds(measured: list[tuple[int, float]], round_trip: float) -> None:
    pace = LinkPace()
    pace.answered(round_trip)
    for size, seconds in measured:
        pace.acknowledged(size, seconds)
        assert LEAST_WINDOW <= pace.window <= MOST_WINDOW
        assert 0 <= pace.allowance(size) <= LONGEST_ALLOWANCE
        assert pace.part > 0
