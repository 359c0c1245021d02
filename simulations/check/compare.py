"""What was recorded against what was published: pure, message by message of each address.

Events have to be the same, in order. Of a last value (a status, a desired or reported document) the distinct values
have to be, but for one that stood so shortly that the other side may have passed it over: two changes that come
together are shown as one, or in the other order.
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
from heliograph.simulations.check.normal import Told

SHORT = 1.0
"""Seconds for which a last value has to stand so that nobody may pass it over."""
NOTHING = "nothing"


@dataclass(frozen=True)
class Difference:
    """One field, or one whole message, that is not as it was recorded.

    Attributes:
        number: which message of its address, counted from 1 among the recorded ones.
        field: its path in the payload; empty where the whole message is meant.
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
class Said:
    """A message with the second at which it was said. ``before``: before the first live message of the recording."""

    topic: str
    payload: Any
    at: float
    before: bool = False


@dataclass
class Comparison:
    """Equal lists where nothing differs: what may be passed over is in neither."""

    recorded: list[Told] = field(default_factory=list)
    published: list[Told] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(recorded: Iterable[Said], published: Iterable[Said], end: float) -> Comparison:
    """What differs, and what was passed over.

    Args:
        end: when the recording ended; what is published later could not have been recorded.
    """
    found = Comparison()
    mine, theirs = _by_topic(recorded), _by_topic(published)
    for topic in sorted({*mine, *theirs}):
        _compare_topic(topic, mine.get(topic, []), theirs.get(topic, []), end, found)
    return found


def told_differences(recorded: Sequence[Told], published: Sequence[Told]) -> list[Difference]:
    """What differs between a run's two lists."""
    found = Comparison()
    mine, theirs = (_by_topic(Said(each.topic, each.payload, 0.0) for each in side) for side in (recorded, published))
    for topic in sorted({*mine, *theirs}):
        here, there = (_values(side.get(topic, []), False, 0.0) for side in (mine, theirs))
        blocks = SequenceMatcher(None, [each.key for each in here], [each.key for each in there], False)
        for what, i1, i2, j1, j2 in blocks.get_opcodes():
            if what != "equal":
                _tell(topic, _pairs(here[i1:i2], there[j1:j2]), found)
    return found.differences


def field_differences(expected: Any, got: Any, path: str = "") -> list[tuple[str, str, str]]:
    """Path, expected and got of each leaf that differs."""
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
    stood: float
    number: int
    late: bool = False
    warm: bool = False
    final: bool = False
    """The last one recorded: the replay goes on for longer, and has to come to it, or beyond it."""


Pair = tuple[_Value | None, _Value | None]


def _compare_topic(topic: str, recorded: list[Said], published: list[Said], end: float, found: Comparison) -> None:
    level = is_level(topic)
    mine, theirs = _values(recorded, level, end), _values(published, level, end)
    if mine:
        mine[-1].final = True
    if level and not any(each.warm for each in mine):
        for each in theirs:
            if each.warm:  # nobody recorded what stood before
                each.stood = 0.0
    for each in theirs:
        if each.late:
            each.stood = 0.0
    passed = 0
    blocks = SequenceMatcher(None, [each.key for each in mine], [each.key for each in theirs], False)
    last: _Value | None = None
    for what, i1, i2, j1, j2 in blocks.get_opcodes():
        if what == "equal":
            last = mine[i2 - 1]
            found.recorded += [Told(topic, each.payload) for each in mine[i1:i2]]
            found.published += [Told(topic, each.payload) for each in theirs[j1:j2]]
            continue
        here, there = mine[i1:i2], theirs[j1:j2]
        if level:
            around = [each for each in (last, mine[i2] if i2 < len(mine) else None) if each is not None]
            kept = [each for each in here if not _passes(each, [*around, *there], bool(there))]
            kept_there = [each for each in there if not _passes(each, [*around, *here], bool(here))]
            if kept and kept[-1].final and there and there[-1] not in kept_there[-1:]:
                kept_there.append(there[-1])  # the one end against the other
            pairs = [
                (one, other) for one, other in _pairs(kept, kept_there)
                if (one is not None and other is not None) or _counts(one or other)
            ]  # fmt: skip
        else:
            pairs = [(one, other) for one, other in _pairs(here, there)
                     if one is not None or other is None or not other.late]  # fmt: skip
        left = {id(each) for pair in pairs for each in pair}
        passed += sum(id(each) not in left and not each.warm and not each.late for each in (*here, *there))
        _tell(topic, pairs, found)
    if passed:
        values = "value" if passed == 1 else "values"
        found.notes.append(f"{topic}: {passed} {values} that stood for less than {SHORT:g} s, on one side only")


def _tell(topic: str, pairs: Iterable[Pair], found: Comparison) -> None:
    after = 0
    for one, other in pairs:
        if one is not None:
            found.recorded.append(Told(topic, one.payload))
            after = one.number
        if other is not None:
            found.published.append(Told(topic, other.payload))
        if one is not None and other is not None:
            found.differences += [
                Difference(topic, one.number, *each) for each in field_differences(one.payload, other.payload)
            ]
        else:
            number = one.number if one is not None else after or (other.number if other is not None else 0)
            expected, got = (_text(each.payload if each is not None else _Absent) for each in (one, other))
            found.differences.append(Difference(topic, number, "", expected, got))


def is_level(topic: str) -> bool:
    """Whether only the last value of an address means anything."""
    declared, _ = registry.lookup(topic)
    return declared is not None and (declared.retained or (declared.stream is not None and declared.stream.last_value))


def _values(said: list[Said], level: bool, end: float) -> list[_Value]:
    """The distinct values one after the other, of a last value; otherwise every message."""
    found: list[_Value] = []
    if level and any(each.before for each in said):
        said = [[each for each in said if each.before][-1], *(each for each in said if not each.before)]
    since = 0.0
    for number, each in enumerate(said, 1):
        key = json.dumps(each.payload, sort_keys=True, default=str)
        if level and found and found[-1].key == key:
            continue
        if found:
            found[-1].stood = each.at - since
        since = each.at
        found.append(_Value(each.payload, key, 0.0, number, each.at > end, each.before))
    if found:
        found[-1].stood = max(0.0, end - since)
    return found


def _pairs(one: Sequence[_Value], other: Sequence[_Value]) -> list[Pair]:
    return align(one, other, _far)


def _far(one: _Value, other: _Value) -> float:
    """How many leaves differ."""
    return len(field_differences(one.payload, other.payload))


def _counts(value: _Value | None) -> bool:
    """Whether a value that the other side has nothing for may not have been passed over."""
    return value is not None and (value.stood >= SHORT or value.final)


def _passes(value: _Value, others: Sequence[_Value], mixed: bool) -> bool:
    """Whether a value stood shortly and, where the other side says something else instead, holds nothing that is not
    also said there: two changes in another order, or both at once."""
    if value.stood >= SHORT:
        return False
    if not mixed:
        return not value.final
    known: dict[str, list[Any]] = {}
    trees = [dict(_leaves(each.payload)) for each in others]
    for tree in trees:
        for path, leaf in tree.items():
            known.setdefault(path, []).append(leaf)
    return all(path in known and leaf in known[path] for path, leaf in _leaves(value.payload))


def _leaves(tree: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(tree, list) and tree:
        for place, value in enumerate(tree):
            yield from _leaves(value, f"{path}[{place}]")
    else:
        yield path, tree


def _by_topic(said: Iterable[Said]) -> dict[str, list[Said]]:
    found: dict[str, list[Said]] = {}
    for each in said:
        found.setdefault(each.topic, []).append(each)
    return found


def _text(value: Any) -> str:
    if value is _Absent:
        return NOTHING
    return shorten(json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else value)
