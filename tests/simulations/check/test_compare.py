"""Pure comparison: what may be passed over, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract import topics
from heliograph.simulations.check.align import align
from heliograph.simulations.check.compare import Said, compare, field_differences
from heliograph.simulations.check.normal import normal

STATUS, CLOSED = "status/jobs/digits", "event/aggregation/digits"
END = 20.0


def said(topic: str, *values: tuple[float, Any]) -> list[Said]:
    return [Said(topic, value, at) for at, value in values]


def told(recorded: list[Said], published: list[Said]) -> list[str]:
    found = compare(recorded, published, END)
    assert (found.recorded == found.published) == (not found.differences)
    return [str(each) for each in found.differences]


def test_a_short_value_may_be_passed_over_on_either_side() -> None:
    long = said(STATUS, (1, {"n": 1}), (5, {"n": 2}), (5.5, {"n": 3}))
    short = said(STATUS, (1, {"n": 1}), (5.5, {"n": 3}))
    for one, other in ((long, short), (short, long)):
        found = compare(one, other, END)
        assert found.differences == []
        assert found.notes == [f"{STATUS}: 1 value that stood for less than 1 s, on one side only"]


def test_a_value_that_stood_may_not() -> None:
    one = said(STATUS, (1, {"n": 1}), (5, {"n": 2}), (7, {"n": 3}))
    other = said(STATUS, (1, {"n": 1}), (7, {"n": 3}))
    assert told(one, other) == [f'{STATUS} #2: expected {{"n": 2}}, got nothing']
    assert told(other, one) == [f'{STATUS} #2: expected nothing, got {{"n": 2}}']


def test_two_changes_in_the_other_order() -> None:
    first, last = {"a": 0, "b": 0}, {"a": 1, "b": 1}
    one = said(STATUS, (1, first), (5, {"a": 1, "b": 0}), (5.1, last))
    other = said(STATUS, (1, first), (5, {"a": 0, "b": 1}), (5.1, last))
    assert told(one, other) == []


def test_a_short_value_that_says_what_nobody_else_says_is_told() -> None:
    one = said(STATUS, (1, {"n": 1}), (5, {"n": 2}), (5.1, {"n": 3}))
    other = said(STATUS, (1, {"n": 1}), (5, {"n": 9}), (5.1, {"n": 3}))
    assert told(one, other) == [f"{STATUS} #2 field n: expected 2, got 9"]


@pytest.mark.parametrize("at", [5.0, END])
def test_the_end_has_to_be_the_same(at: float) -> None:
    one = said(STATUS, (1, {"n": 1}), (at, {"n": 2}))
    assert told(one, said(STATUS, (1, {"n": 1}))) == [f'{STATUS} #2: expected {{"n": 2}}, got nothing']
    assert told(one, said(STATUS, (1, {"n": 1}), (at + 0.1, {"n": 3}))) == [f"{STATUS} #2 field n: expected 2, got 3"]


def test_what_comes_after_the_recording_was_not_to_be_recorded() -> None:
    assert told(said(CLOSED, (1, {"n": 1})), said(CLOSED, (1, {"n": 1}), (END + 0.5, {"n": 2}))) == []


def test_events_are_compared_one_by_one() -> None:
    one = said(CLOSED, (1, {"n": 1}), (1.1, {"n": 2}), (1.2, {"n": 2}))
    assert told(one, said(CLOSED, (1, {"n": 1}), (1.1, {"n": 2}))) == [f'{CLOSED} #3: expected {{"n": 2}}, got nothing']


def test_fields_are_named_by_their_path() -> None:
    one = {"counted": {"edge-1": "a", "edge-2": "b"}, "late": [{"edge": "edge-3"}], "n": 1}
    other = {"counted": {"edge-1": "a"}, "late": [{"edge": "edge-4"}, {}], "n": 1.0}
    assert field_differences(one, other) == [
        ("counted.edge-2", "b", "nothing"), ("late[0].edge", "edge-3", "edge-4"), ("late[1]", "nothing", "{}"),
        ("n", "1", "1.0"),
    ]  # fmt: skip


def test_what_differs_from_run_to_run_is_left_out() -> None:
    digest = "0" * 64
    data = {
        "generation": {"epoch": 1, "n": 2}, "duration_seconds": 1.5, "next_sequence": 7,
        "since": "2026-01-01T00:00:00Z",
        "model": {"digest": digest, "size": 3, "inline": b"abc"}, "rounds": 4, "startTime": "",
    }  # fmt: skip
    assert normal(topics.AGGREGATION, data) == {"since": "a time", "model": digest, "rounds": 4, "startTime": ""}


def test_what_is_alike_is_put_side_by_side() -> None:
    assert align([1, 5, 9], [5, 8], lambda a, b: abs(a - b)) == [(1, None), (5, 5), (9, 8)]
    assert align([], [1], lambda a, b: 0) == [(None, 1)]
