"""The pure comparison: differences that are reported, and values that may be skipped."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract import topics
from heliograph.simulations.check.align import align
from heliograph.simulations.check.comparable import comparable
from heliograph.simulations.check.compare import TimedMessage, compare, field_differences

STATUS, CLOSED = "status/jobs/digits", "event/aggregation/digits"
END = 20.0


def messages(topic: str, *values: tuple[float, Any]) -> list[TimedMessage]:
    return [TimedMessage(topic, value, at) for at, value in values]


def differences(recorded: list[TimedMessage], published: list[TimedMessage]) -> list[str]:
    found = compare(recorded, published, END)
    assert (found.recorded == found.published) == (not found.differences)
    return [str(each) for each in found.differences]


def test_a_brief_value_may_be_missing_on_either_side() -> None:
    long = messages(STATUS, (1, {"n": 1}), (5, {"n": 2}), (5.5, {"n": 3}))
    short = messages(STATUS, (1, {"n": 1}), (5.5, {"n": 3}))
    for one, other in ((long, short), (short, long)):
        found = compare(one, other, END)
        assert found.differences == []
        assert found.notes == [f"{STATUS}: 1 value valid for less than 1.1 s, on one side only"]


def test_a_longer_value_may_not_be_missing() -> None:
    one = messages(STATUS, (1, {"n": 1}), (5, {"n": 2}), (7, {"n": 3}))
    other = messages(STATUS, (1, {"n": 1}), (7, {"n": 3}))
    assert differences(one, other) == [f'{STATUS} #2: expected {{"n": 2}}, got nothing']
    assert differences(other, one) == [f'{STATUS} #2: expected nothing, got {{"n": 2}}']


def test_two_changes_may_come_in_the_other_order() -> None:
    first, last = {"a": 0, "b": 0}, {"a": 1, "b": 1}
    one = messages(STATUS, (1, first), (5, {"a": 1, "b": 0}), (5.1, last))
    other = messages(STATUS, (1, first), (5, {"a": 0, "b": 1}), (5.1, last))
    assert differences(one, other) == []


def test_a_brief_value_with_a_leaf_of_its_own_is_a_difference() -> None:
    one = messages(STATUS, (1, {"n": 1}), (5, {"n": 2}), (5.1, {"n": 3}))
    other = messages(STATUS, (1, {"n": 1}), (5, {"n": 9}), (5.1, {"n": 3}))
    assert differences(one, other) == [f"{STATUS} #2 field n: expected 2, got 9"]


def test_a_count_may_be_taken_a_moment_later() -> None:
    """As a status that is written once a second takes it."""
    one = messages(STATUS, (1, {"n": 1, "by": "a"}), (5, {"n": 4, "by": "a"}), (6, {"n": 9, "by": "a"}))
    for counted, by, expected in ((7, "a", []), (10, "a", ["n"]), (7, "b", ["by", "n"])):
        other = messages(STATUS, (1, {"n": 1, "by": "a"}), (5, {"n": counted, "by": by}), (6, {"n": 9, "by": "a"}))
        found = compare(one, other, END).differences
        assert sorted(each.field for each in found) == expected
    slow = messages(STATUS, (1, {"n": 1, "by": "a"}), (5, {"n": 7, "by": "a"}), (8, {"n": 9, "by": "a"}))
    assert [each.field for each in compare(one, slow, END).differences] == ["n"]


@pytest.mark.parametrize("at", [5.0, END])
def test_the_last_value_must_be_equal(at: float) -> None:
    one = messages(STATUS, (1, {"n": 1}), (at, {"n": 2}))
    assert differences(one, messages(STATUS, (1, {"n": 1}))) == [f'{STATUS} #2: expected {{"n": 2}}, got nothing']
    other = messages(STATUS, (1, {"n": 1}), (at + 0.1, {"n": 3}))
    assert differences(one, other) == [f"{STATUS} #2 field n: expected 2, got 3"]


def test_messages_after_the_end_of_the_recording_are_no_difference() -> None:
    assert differences(messages(CLOSED, (1, {"n": 1})), messages(CLOSED, (1, {"n": 1}), (END + 0.5, {"n": 2}))) == []


def test_events_are_compared_one_by_one() -> None:
    one = messages(CLOSED, (1, {"n": 1}), (1.1, {"n": 2}), (1.2, {"n": 2}))
    other = messages(CLOSED, (1, {"n": 1}), (1.1, {"n": 2}))
    assert differences(one, other) == [f'{CLOSED} #3: expected {{"n": 2}}, got nothing']


def test_fields_are_named_by_their_path() -> None:
    one = {"counted": {"edge-1": "a", "edge-2": "b"}, "late": [{"edge": "edge-3"}], "n": 1}
    other = {"counted": {"edge-1": "a"}, "late": [{"edge": "edge-4"}, {}], "n": 1.0}
    assert field_differences(one, other) == [
        ("counted.edge-2", "b", "nothing"), ("late[0].edge", "edge-3", "edge-4"), ("late[1]", "nothing", "{}"),
        ("n", "1", "1.0"),
    ]  # fmt: skip


def test_parts_that_differ_in_each_run_are_left_out() -> None:
    digest = "0" * 64
    data = {
        "generation": {"epoch": 1, "n": 2}, "duration_seconds": 1.5, "next_sequence": 7,
        "since": "2026-01-01T00:00:00Z",
        "model": {"digest": digest, "size": 3, "inline": b"abc"}, "rounds": 4, "startTime": "",
    }  # fmt: skip
    assert comparable(topics.AGGREGATION, data) == {"since": "a time", "model": digest, "rounds": 4, "startTime": ""}


def test_similar_elements_are_paired() -> None:
    assert align([1, 5, 9], [5, 8], lambda a, b: abs(a - b)) == [(1, None), (5, 5), (9, 8)]
    assert align([], [1], lambda a, b: 0) == [(None, 1)]
