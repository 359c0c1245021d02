"""The comparison of recorded with published messages, address by address. Pure.

Events must be equal and in the same order. A last value (a status, a desired or reported document) must go through the
same distinct values. A value that was valid only briefly may be missing on one side, because two simultaneous changes
appear as one, or in the other order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from heliograph.bus.contract import registry
from heliograph.core.errors import shorten
from heliograph.simulations.check.align import align
from heliograph.simulations.check.comparable import ComparedMessage

SHORT = 1.1
"""Seconds of validity from which on a last value must appear on both sides. A status that is written once a second
stands for a second, however briefly it was true."""
NOTHING = "nothing"


@dataclass(frozen=True)
class Difference:
    """One field, or one whole message, that differs from the recording.

    Attributes:
        number: number of the message among the recorded ones of its address, from 1.
        field: path in the payload; empty for the whole message.
    """

    topic: str
    number: int
    field: str
    expected: str
    got: str

    def __str__(self) -> str:
        where = f" field {self.field}" if self.field else ""
        return f"{self.topic} #{self.number}{where}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class TimedMessage:
    """A message with its time in seconds. ``before`` marks a message older than the first live one of the recording."""

    topic: str
    payload: Any
    at: float
    before: bool = False


@dataclass
class Comparison:
    """The result of a comparison. The two lists are equal without differences; skipped values are in neither."""

    recorded: list[ComparedMessage] = field(default_factory=list)
    published: list[ComparedMessage] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(recorded: Iterable[TimedMessage], published: Iterable[TimedMessage], end: float) -> Comparison:
    """Return the differences, and notes on skipped values.

    Args:
        end: end of the recording; later messages could not have been recorded.
    """
    found = Comparison()
    mine, theirs = _by_topic(recorded), _by_topic(published)
    for topic in sorted({*mine, *theirs}):
        _compare_topic(topic, mine.get(topic, []), theirs.get(topic, []), end, found)
    return found


def message_differences(recorded: Sequence[ComparedMessage], published: Sequence[ComparedMessage]) -> list[Difference]:
    """Return the differences between a run's two lists of messages."""
    found = Comparison()
    sides = [[TimedMessage(each.topic, each.payload, 0.0) for each in side] for side in (recorded, published)]
    mine, theirs = map(_by_topic, sides)
    for topic in sorted({*mine, *theirs}):
        here, there = (_values(side.get(topic, []), False, 0.0) for side in (mine, theirs))
        blocks = SequenceMatcher(None, [each.key for each in here], [each.key for each in there], False)
        for tag, i1, i2, j1, j2 in blocks.get_opcodes():
            if tag != "equal":
                _add_differences(topic, _pairs(here[i1:i2], there[j1:j2]), found)
    return found.differences


def field_differences(expected: Any, got: Any, path: str = "") -> list[tuple[str, str, str]]:
    """Return path, expected and actual value of each leaf that differs."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        keys = [*expected, *(key for key in got if key not in expected)]
        return [
            each for key in keys
            for each in field_differences(expected.get(key, _Absent), got.get(key, _Absent), f"{path}.{key}".strip("."))
        ]  # fmt: skip
    if isinstance(expected, list) and isinstance(got, list):
        length = max(len(expected), len(got))
        return [
            each for place in range(length)
            for each in field_differences(
                expected[place] if place < len(expected) else _Absent, got[place] if place < len(got) else _Absent,
                f"{path}[{place}]",
            )
        ]  # fmt: skip
    return [] if expected == got and type(expected) is type(got) else [(path, _text(expected), _text(got))]


class _Absent:
    pass


@dataclass
class _Value:
    payload: Any
    key: str
    lasted: float
    number: int
    late: bool = False
    warm: bool = False
    final: bool = False
    """Whether it is the last recorded value; the replay runs longer and must reach it."""


Pair = tuple[_Value | None, _Value | None]


def _compare_topic(
    topic: str, recorded: list[TimedMessage], published: list[TimedMessage], end: float, found: Comparison
) -> None:
    level = is_level(topic)
    mine, theirs = _values(recorded, level, end), _values(published, level, end)
    if mine:
        mine[-1].final = True
    if level and not any(each.warm for each in mine):
        for each in theirs:
            if each.warm:  # earlier values were not recorded
                each.lasted = 0.0
    for each in theirs:
        if each.late:
            each.lasted = 0.0
    skipped = 0
    blocks = SequenceMatcher(None, [each.key for each in mine], [each.key for each in theirs], False)
    last: _Value | None = None
    for tag, i1, i2, j1, j2 in blocks.get_opcodes():
        if tag == "equal":
            last = mine[i2 - 1]
            found.recorded += [ComparedMessage(topic, each.payload) for each in mine[i1:i2]]
            found.published += [ComparedMessage(topic, each.payload) for each in theirs[j1:j2]]
            continue
        here, there = mine[i1:i2], theirs[j1:j2]
        if level:
            around = [each for each in (last, mine[i2] if i2 < len(mine) else None) if each is not None]
            kept = [each for each in here if not _may_skip(each, [*around, *there], bool(there))]
            kept_there = [each for each in there if not _may_skip(each, [*around, *here], bool(here))]
            if kept and kept[-1].final and there and there[-1] not in kept_there[-1:]:
                kept_there.append(there[-1])  # compare the last values of both sides
            pairs = [
                (one, other) for one, other in _pairs(kept, kept_there)
                if (one is not None and other is not None and not _counted_apart(one, other, around))
                or ((one is None or other is None) and _needs_partner(one or other))
            ]  # fmt: skip
        else:
            pairs = [(one, other) for one, other in _pairs(here, there)
                     if one is not None or other is None or not other.late]  # fmt: skip
        left = {id(each) for pair in pairs for each in pair}
        skipped += sum(id(each) not in left and not each.warm and not each.late for each in (*here, *there))
        _add_differences(topic, pairs, found)
    if skipped:
        values = "value" if skipped == 1 else "values"
        found.notes.append(f"{topic}: {skipped} {values} valid for less than {SHORT:g} s, on one side only")


def _add_differences(topic: str, pairs: Iterable[Pair], found: Comparison) -> None:
    after = 0
    for one, other in pairs:
        if one is not None:
            found.recorded.append(ComparedMessage(topic, one.payload))
            after = one.number
        if other is not None:
            found.published.append(ComparedMessage(topic, other.payload))
        if one is not None and other is not None:
            found.differences += [
                Difference(topic, one.number, *each) for each in field_differences(one.payload, other.payload)
            ]
        else:
            number = one.number if one is not None else after or (other.number if other is not None else 0)
            expected, got = (_text(each.payload if each is not None else _Absent) for each in (one, other))
            found.differences.append(Difference(topic, number, "", expected, got))


def is_level(topic: str) -> bool:
    """Return whether only the last value of an address counts."""
    declared, _ = registry.lookup(topic)
    return declared is not None and (declared.retained or (declared.stream is not None and declared.stream.last_value))


def _values(messages: list[TimedMessage], level: bool, end: float) -> list[_Value]:
    """Return the successive distinct values of a last value; otherwise every message."""
    found: list[_Value] = []
    if level and any(each.before for each in messages):
        messages = [[each for each in messages if each.before][-1], *(each for each in messages if not each.before)]
    since = 0.0
    for number, each in enumerate(messages, 1):
        key = json.dumps(each.payload, sort_keys=True, default=str)
        if level and found and found[-1].key == key:
            continue
        if found:
            found[-1].lasted = each.at - since
        since = each.at
        found.append(_Value(each.payload, key, 0.0, number, each.at > end, each.before))
    if found:
        found[-1].lasted = max(0.0, end - since)
    return found


def _pairs(one: Sequence[_Value], other: Sequence[_Value]) -> list[Pair]:
    return align(one, other, _distance)


def _distance(one: _Value, other: _Value) -> float:
    """Return the number of leaves that differ."""
    return len(field_differences(one.payload, other.payload))


def _needs_partner(value: _Value | None) -> bool:
    """Return whether a value without a partner must have one."""
    return value is not None and (value.lasted >= SHORT or value.final)


def _may_skip(value: _Value, others: Sequence[_Value], mixed: bool) -> bool:
    """Return whether a value without a partner may be skipped.

    It must have been valid only briefly. If the other side has other values instead, each of its leaves must occur in
    them: then two changes came in another order, or at once.
    """
    if value.lasted >= SHORT:
        return False
    if not mixed:
        return not value.final
    known: dict[str, list[Any]] = {}
    trees = [dict(_leaves(each.payload)) for each in others]
    for tree in trees:
        for path, leaf in tree.items():
            known.setdefault(path, []).append(leaf)
    return all(path in known and leaf in known[path] for path, leaf in _leaves(value.payload))


def _counted_apart(one: _Value, other: _Value, around: Sequence[_Value]) -> bool:
    """Return whether two brief values differ by counts alone, each between those before and after: the one was counted
    a moment later than the other."""
    if max(one.lasted, other.lasted) >= SHORT or one.final or len(around) < 2:
        return False
    here, there, before, after = (dict(_leaves(each.payload)) for each in (one, other, *around))
    if here.keys() != there.keys():
        return False
    differing = [path for path in here if here[path] != there[path]]
    return all(
        type(count) is int and path in before and path in after and before[path] <= count <= after[path]
        for path in differing for count in (here[path], there[path])
    )  # fmt: skip


def _leaves(tree: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(tree, list) and tree:
        for place, value in enumerate(tree):
            yield from _leaves(value, f"{path}[{place}]")
    else:
        yield path, tree


def _by_topic(messages: Iterable[TimedMessage]) -> dict[str, list[TimedMessage]]:
    found: dict[str, list[TimedMessage]] = {}
    for each in messages:
        found.setdefault(each.topic, []).append(each)
    return found


def _text(value: Any) -> str:
    if value is _Absent:
        return NOTHING
    return shorten(json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else value)
