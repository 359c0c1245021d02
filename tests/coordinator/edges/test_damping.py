"""What is shown of an edge whose link comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heliograph.coordinator.edges.damping import MOST, STEADY, WINDOW, Damped

waits = st.lists(st.floats(0.01, 20), max_size=40)


def flapped(times: int, every: float = 1.0) -> tuple[Damped, float]:
    """An edge that was cut and came back so often, and when it last did."""
    seen, now = Damped(), 0.0
    for _ in range(times):
        now += every
        seen = seen.changed(False, now).changed(True, now)
    return seen, now


def test_the_first_connection_and_some_returns_are_shown_at_once() -> None:
    for times in range(1, MOST + 1):
        seen, now = flapped(times)
        assert seen.shown(now)
        assert not seen.flaps(now)
        assert seen.due_in(now) is None


def test_one_that_returns_again_and_again_is_shown_once_it_is_steady() -> None:
    seen, now = flapped(MOST + 1)
    assert seen.flaps(now) == MOST + 1
    assert not seen.shown(now)
    assert seen.due_in(now) == STEADY
    assert not seen.shown(now + STEADY - 0.01)
    assert seen.shown(now + STEADY)
    assert seen.flaps(now + STEADY)  # shown online, and said to flap, until it has been calm for a while
    calm = seen.due_in(now + STEADY)
    assert calm is not None
    assert not seen.flaps(now + STEADY + calm)


def test_seldom_is_not_often() -> None:
    seen, now = flapped(10 * MOST, every=WINDOW / MOST)
    assert seen.shown(now)


@given(waits)
def test_offline_is_shown_at_once(waits: list[float]) -> None:
    seen, now = Damped(), 0.0
    for wait in waits:
        now += wait
        seen = seen.changed(not seen.online, now)
        assert seen.online or not seen.shown(now)


@given(waits)
def test_what_is_due_is_the_next_thing_to_change(waits: list[float]) -> None:
    seen, now = Damped(), 0.0
    for wait in waits:
        due = seen.due_in(now)
        until = wait if due is None else min(wait, due)
        before = (seen.shown(now), bool(seen.flaps(now)))
        assert (seen.shown(now + until * 0.999), bool(seen.flaps(now + until * 0.999))) == before
        now += wait
        seen = seen.changed(not seen.online, now)
