"""Rows and their labels: a row is added once its label is known, and left out where none comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgpack

from heliograph.bus.contract.resources.telemetry_source import RecordedRows, RowLabel
from heliograph.core.errors import Refused
from heliograph.edge_agent.recording.labels import Labels, label_of
from heliograph.edge_agent.recording.row_store import RowStore, WaitingRow
from heliograph.edge_agent.recording.samples import MISSING, unreadable, value_of

MAX_DEVICES = 1000
ALL = ""
"""Stands for the device of a label that holds for the rows of all."""
_STATE = "labels/"


class LabelledRows:
    """Adds rows to the store.

    Args:
        rule: where labels come from; None where rows have none.
        counts: counted on.
        most: rows that may wait.
        now: returns the agent's time, by which a row waits.
    """

    def __init__(
        self, store: RowStore, rule: RowLabel | None, counts: RecordedRows, most: int, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._rule = rule
        self._counts = counts
        self._most = most
        self._now = now
        self.labeller, _, self._field = (
            rule.field.rpartition("/") if rule is not None and "/" in rule.field
            else (ALL, "", rule.field if rule is not None else "")
        )  # fmt: skip
        self._within = rule.within_seconds if rule is not None else 0.0
        self._waits = rule is not None and rule.rule == "nearest" and self._within > 0
        self._labels: dict[str, Labels] = {}
        self._told: set[str] = set()
        counts.waiting = store.count_waiting()
        if rule is not None:
            for device, state in store.load_all(_STATE):
                self._labels[device] = Labels(rule)
                self._labels[device].restore(msgpack.unpackb(state))

    def tell(self, device: str, data: Any, time: float) -> bool:
        """Take the label that a device's message tells. Return whether it does. Raise Refused for one that is none."""
        rule = self._rule
        if rule is None or self.labeller not in (device, ALL):
            return False
        told = value_of(data, self._field)
        if told is MISSING:
            if self.labeller == device:
                raise unreadable(self._field, "a label", "a message without it")
            return False
        label, of = label_of(told, rule), self._of(device)
        if of not in self._labels:
            if len(self._labels) >= MAX_DEVICES:
                raise too_many(MAX_DEVICES)
            self._labels[of] = Labels(rule)
        self._labels[of].tell(time, label)
        self._told.add(of)
        if self._counts.waiting:
            self._settle(self._store.waiting(device=of))
        return True

    def add(self, device: str, time: float, x: bytes) -> None:
        """Add a row that ends at ``time``, or let it wait for its label."""
        if self._rule is None:
            self._store.add(time, x, None)
            self._counts.recorded += 1
            return
        of = self._of(device)
        settled, label = self._labels[of].of(time) if of in self._labels else (not self._waits, None)
        if settled:
            self._add(time, x, label)
            return
        if self._counts.waiting >= self._most:
            oldest = self._store.oldest_waiting(self._most // 8 + 1)
            self._store.waits_no_more(oldest)
            self._counts.waiting -= len(oldest)
            self._counts.dropped += len(oldest)
        self._store.wait(of, time, self._now(), x)
        self._counts.waiting += 1

    @property
    def next_overdue(self) -> float | None:
        """Return the time at which a row has waited long enough; None where none waits."""
        came = self._store.first_waiting() if self._counts.waiting else None
        return came + self._within if came is not None else None

    def settle_overdue(self) -> None:
        """Give the rows that have waited long enough the labels that there are."""
        overdue, now = self.next_overdue, self._now()
        if overdue is not None and overdue <= now:
            self._settle(self._store.waiting(came_until=now - self._within), final=True)

    def save(self) -> None:
        """Store the labels that were told since the last call."""
        for device in self._told:
            self._store.save(f"{_STATE}{device}", msgpack.packb(self._labels[device].state()))
        self._told.clear()

    def _of(self, device: str) -> str:
        return device if self.labeller == ALL else ALL

    def _settle(self, rows: Iterable[WaitingRow], final: bool = False) -> None:
        done = []
        for row in rows:
            labels = self._labels.get(row.device)
            settled, label = labels.of(row.time, final) if labels is not None else (final, None)
            if settled:
                done.append(row.id)
                self._add(row.time, row.x, label)
        self._store.waits_no_more(done)
        self._counts.waiting -= len(done)

    def _add(self, time: float, x: bytes, label: float | None) -> None:
        if label is None:
            self._counts.unlabelled += 1
        else:
            self._store.add(time, x, label)
            self._counts.recorded += 1


def too_many(most: int) -> Refused:
    return Refused("too-many-devices", field="spec.telemetry.devices", expected=f"at most {most} devices",
                   got="one more", hint="Name fewer devices in the data set.")  # fmt: skip
