"""Damping of an edge whose link comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heliograph.coordinator.edges.damping import MAX_RETURNS, STEADY, WINDOW, Damped

waits = st.lists(st.floats(0.01, 20), max_size=40)


def flapped(times: int, every: float = 1.0) -> tuple[Damped, float]:
    """Return an edge after so many cuts and returns, and the time of its last return."""
    damped, now = Damped(), 0.0
    for _ in range(times):
        now += every
        damped = damped.after(False, now).after(True, now)
    return damped, now


def test_the_first_connection_and_some_returns_are_shown_at_once() -> None:
    for times in range(1, MAX_RETURNS + 1):
        damped, now = flapped(times)
        assert damped.shown_online(now)
        assert not damped.flaps(now)
        assert damped.next_change_in(now) is None


def test_an_edge_that_returns_again_and_again_is_shown_online_once_it_is_steady() -> None:
    damped, now = flapped(MAX_RETURNS + 1)
    assert damped.flaps(now) == MAX_RETURNS + 1
    assert not damped.shown_online(now)
    assert damped.next_change_in(now) == STEADY
    assert not damped.shown_online(now + STEADY - 0.01)
    assert damped.shown_online(now + STEADY)
    assert damped.flaps(now + STEADY)  # it is shown online, but counts as flapping until the window has passed
    calm = damped.next_change_in(now + STEADY)
    assert calm is not None
    assert not damped.flaps(now + STEADY + calm)


def test_rare_returns_are_no_flapping() -> None:
    damped, now = flapped(10 * MAX_RETURNS, every=WINDOW / MAX_RETURNS)
    assert damped.shown_online(now)


@given(waits)
def test_offline_is_shown_at_once(waits: list[float]) -> None:
    damped, now = Damped(), 0.0
    for wait in waits:
        now += wait
        damped = damped.after(not damped.online, now)
        assert damped.online or not damped.shown_online(now)


@given(waits)
def test_nothing_changes_before_the_next_change_is_due(waits: list[float]) -> None:
    damped, now = Damped(), 0.0
    for wait in waits:
        due = damped.next_change_in(now)
        until = wait if due is None else min(wait, due)
        before = (damped.shown_online(now), bool(damped.flaps(now)))
        assert (damped.shown_online(now + until * 0.999), bool(damped.flaps(now + until * 0.999))) == before
        now += wait
        damped = damped.after(not damped.online, now)
