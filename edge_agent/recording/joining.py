"""Samples of several devices: what each has told last, at fixed times. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from heliograph.bus.contract.resources.telemetry_source import TimeJoin
from heliograph.edge_agent.recording.samples import MISSING, number_of, unreadable, value_of

STALE = 10
"""Times ``everySeconds`` after which a value is too old, where the document does not say it."""


class Join:
    """The newest value of each field.

    Args:
        fields: ``DEVICE/FIELD``, the channels of a sample.
    """

    def __init__(self, fields: Sequence[str], rule: TimeJoin) -> None:
        self._every = rule.every_seconds
        self._stale = rule.stale_seconds if rule.stale_seconds is not None else STALE * rule.every_seconds
        self._fields = [tuple(each.split("/", 1)) for each in fields]
        self._values: list[tuple[float, float] | None] = [None] * len(fields)
        """For each field the time of its newest value, and the value."""
        self._next: int | None = None
        """Number of the next tick: its time is so many times ``everySeconds`` since 1970."""

    @property
    def devices(self) -> frozenset[str]:
        return frozenset(device for device, _ in self._fields)

    def add(self, device: str, data: Any, time: float) -> Iterator[tuple[float, array[float]]]:
        """Take a message. Yield time and numbers of each sample before it.

        Raise Refused where it has none of its device's fields, or one that is no number; nothing of it counts then.
        """
        found = self._found(device, data)
        yield from self._ticks_before(time)
        for place, value in found.items():
            before = self._values[place]
            if before is None or before[0] <= time:
                self._values[place] = (time, value)
        if self._next is None:
            self._next = math.floor(time / self._every) + 1

    def _found(self, device: str, data: Any) -> Mapping[int, float]:
        found, names = {}, list[str]()
        for place, (of, field) in enumerate(self._fields):
            if of == device:
                names.append(field)
                if (value := value_of(data, field)) is not MISSING:
                    found[place] = number_of(value, field)
        if not found:
            raise unreadable(" or ".join(names), "a number", "a message without it")
        return found

    def _ticks_before(self, time: float) -> Iterator[tuple[float, array[float]]]:
        if self._next is None or time < self._next * self._every:
            return
        known = [each for each in self._values if each is not None]
        if len(known) == len(self._values):
            # beyond the oldest of the newest values and the time that it lasts no sample is whole
            last = min(time, min(when for when, _ in known) + self._stale)
            for tick in range(self._next, math.floor(last / self._every) + 1):
                yield tick * self._every, array("f", [value for _, value in known])
        self._next = math.floor(time / self._every) + 1

    def state(self) -> Any:
        """Return what ``restore`` takes, as JSON has it."""
        return [self._next, self._values]

    def restore(self, state: Any) -> None:
        """Go on where ``state`` was taken; begin anew where it is of other fields."""
        tick, values = state
        if len(values) == len(self._values):
            self._next = tick
            self._values = [(each[0], each[1]) if each is not None else None for each in values]
