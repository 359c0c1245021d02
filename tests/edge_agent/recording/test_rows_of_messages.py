"""Samples of messages, rows of samples, samples of several devices, and labels: pure decisions."""

from __future__ import annotations

import math
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.resources.telemetry_source import RowLabel, TimeJoin
from heliograph.core.errors import Refused
from heliograph.edge_agent.recording.joining import Join
from heliograph.edge_agent.recording.labels import Labels, label_of
from heliograph.edge_agent.recording.samples import samples_of
from heliograph.edge_agent.recording.windows import Windows


@pytest.mark.parametrize(("data", "fields", "samples"), [
    ({"t": 1.5, "h": 2}, ["t", "h"], [1.5, 2]),
    ({"open": True}, ["open"], [1]),
    (21.5, ["."], [21.5]),
    ([1, 2, 3], ["."], [1, 2, 3]),
    ({"v": {"x": [1, 2], "y": [3, 4]}}, ["v.x", "v.y"], [1, 3, 2, 4]),
    ({"axes": [[1, 2], [3, 4]]}, ["axes.0", "axes.1"], [1, 3, 2, 4]),
    ({"s": [[1, 3], [2, 4]]}, ["s.*.0", "s.*.1"], [1, 3, 2, 4]),
    ([{"x": 1}, {"x": 2}], ["*.x"], [1, 2]),
    ({"*": 4}, ["*"], [4]),
    ({"v": []}, ["v"], []),
])  # fmt: skip
def test_fields_give_samples(data: Any, fields: list[str], samples: list[float]) -> None:
    assert samples_of(data, fields) == array("f", samples)


@pytest.mark.parametrize(("data", "fields", "field", "expected"), [
    ({"t": 1}, ["t", "h"], "h", "a number"),
    ({"t": "21 °C"}, ["t"], "t", "a number"),
    ({"t": None}, ["t"], "t", "a number"),
    ({"t": math.nan}, ["t"], "t", "finite"),
    ({"t": [1, math.inf]}, ["t"], "t", "finite"),
    ({"t": 1e39}, ["t"], "t", "float32"),
    ({"t": 10**400}, ["t"], "t", "float32"),
    ({"x": [1, 2], "y": [1]}, ["x", "y"], "y", "as many"),
    ({"x": [1, 2], "y": 1}, ["x", "y"], "y", "as many"),
    ({"s": [{"x": 1}, {}]}, ["s.*.x"], "s.*.x", "a number"),
    ({"x": [[1]]}, ["x"], "x", "a number"),
    ("text", ["t"], "t", "a number"),
    (b"\x00", ["."], ".", "a number"),
    ([1], ["99999999999999999999"], "99999999999999999999", "a number"),
])  # fmt: skip
def test_what_gives_no_sample_is_refused_by_its_field(data: Any, fields: list[str], field: str, expected: str) -> None:
    with pytest.raises(Refused) as refused:
        samples_of(data, fields)
    assert refused.value.field == field and expected in refused.value.expected


@given(
    channels=st.integers(1, 3), length=st.integers(1, 9), stride=st.integers(1, 12),
    messages=st.lists(st.integers(0, 30), max_size=20), cut=st.integers(0, 20),
)  # fmt: skip
def test_rows_are_the_slices_of_all_samples_however_they_come_and_whenever_the_agent_starts_again(
    channels: int, length: int, stride: int, messages: list[int], cut: int
) -> None:
    windows, rows, number = Windows(channels, length, stride), list[list[float]](), 0
    for place, count in enumerate(messages):
        if place == cut:
            state, windows = windows.state(), Windows(channels, length, stride)
            windows.restore(*state)
        samples = array("f", range(number * channels, (number + count) * channels))
        number += count
        rows += [list(array("f", row)) for row in windows.add(samples, float(place))]
    whole = [float(each) for each in range(number * channels)]
    begins = range(0, number - length + 1, stride)
    assert rows == [whole[begin * channels : (begin + length) * channels] for begin in begins]


def test_no_row_reaches_over_a_gap() -> None:
    windows = Windows(1, 3, gap=2.0)
    assert list(windows.add(array("f", [1, 2]), 10.0)) == []
    assert list(windows.add(array("f", [3]), 12.0)) == [array("f", [1, 2, 3]).tobytes()]
    assert list(windows.add(array("f", [4, 5]), 13.0)) == []
    assert list(windows.add(array("f", [6, 7, 8]), 15.1)) == [array("f", [6, 7, 8]).tobytes()]


def test_several_devices_are_joined_at_fixed_times_with_what_each_told_last() -> None:
    join = Join(["a/t", "b/h"], TimeJoin(every_seconds=10, stale_seconds=25))
    assert list(join.add("a", {"t": 1}, 101)) == []
    assert list(join.add("b", {"h": 5}, 109)) == []
    assert list(join.add("a", {"t": 2}, 111)) == [(110, array("f", [1, 5]))]
    assert list(join.add("a", {"t": 3}, 131)) == [(120, array("f", [2, 5])), (130, array("f", [2, 5]))]
    state, join = join.state(), Join(["a/t", "b/h"], TimeJoin(every_seconds=10, stale_seconds=25))
    join.restore(state)
    assert list(join.add("a", {"t": 4}, 145)) == []  # b's value of 109 is older than 25 s at 140
    assert list(join.add("b", {"h": 6}, 149)) == []
    assert list(join.add("b", {"h": 7}, 151)) == [(150, array("f", [4, 6]))]
    with pytest.raises(Refused, match="t"):
        list(join.add("a", {"h": 1}, 152))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1e5, width=32)), min_size=1, max_size=60))
def test_joined_samples_come_once_for_a_time_in_order_and_never_too_old(messages: list[tuple[str, float]]) -> None:
    join = Join(["a/v", "b/v"], TimeJoin(every_seconds=7, stale_seconds=30))
    newest, ticks = {"a": -math.inf, "b": -math.inf}, list[float]()
    for device, time in messages:
        for tick, _ in join.add(device, {"v": time}, time):
            ticks.append(tick)
            assert all(tick - told <= 30 for told in newest.values()), (tick, newest)
        newest[device] = max(newest[device], time)
    assert ticks == sorted(set(ticks)) and all(tick % 7 == 0 for tick in ticks)


def _labels(rule: str, within: float) -> Labels:
    return Labels(RowLabel(field="state", within_seconds=within, rule=rule))  # type: ignore[arg-type]


def test_the_nearest_label_is_known_once_a_later_one_has_come_or_nobody_waits() -> None:
    labels = _labels("nearest", 5)
    assert labels.of(10) == (False, None)
    assert labels.of(10, final=True) == (True, None)
    labels.tell(8, 1)
    assert labels.of(10) == (False, None)
    assert labels.of(10, final=True) == (True, 1)
    labels.tell(11, 2)
    assert labels.of(10) == (True, 2)
    assert labels.of(9) == (True, 1)
    labels.tell(10, 3)  # told late
    assert labels.of(10) == (True, 3)
    assert labels.of(2) == (True, None)


def test_the_last_label_holds_until_another_is_told() -> None:
    labels = _labels("last", 60)
    assert labels.of(10) == (True, None)
    labels.tell(8, 1)
    labels.tell(11, 2)
    assert [labels.of(time)[1] for time in (7, 8, 10.9, 11, 71, 71.5)] == [None, 1, 1, 2, 2, None]


@pytest.mark.parametrize(("told", "label"), [("ok", 0), ("bad", 1), (True, 2), (3, 3)])
def test_a_label_is_the_place_of_its_class(told: Any, label: float) -> None:
    rule = RowLabel(field="state", classes=["ok", "bad", "true", "3"])
    assert label_of(told, rule) == label
    with pytest.raises(Refused, match="ok, bad, true, 3"):
        label_of("worn", rule)
    with pytest.raises(Refused, match="a number"):
        label_of("ok", RowLabel(field="state"))
