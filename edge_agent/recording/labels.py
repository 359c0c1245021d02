"""Which label a row has: the nearest in time, or the last one before it. Pure."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.resources.telemetry_source import RowLabel
from heliograph.edge_agent.recording.samples import number_of, unreadable

KEPT = 64
"""Labels that are remembered of each device: the newest."""


class Labels:
    """The newest labels, of one device or for all rows."""

    def __init__(self, rule: RowLabel) -> None:
        self._within = rule.within_seconds
        self._waits = rule.rule == "nearest"
        self._told: list[tuple[float, float]] = []
        """Time and label, in the order of the times."""

    def tell(self, time: float, label: float) -> None:
        """Take a label that came with a message of that time."""
        place = len(self._told)
        while place and self._told[place - 1][0] > time:
            place -= 1
        self._told.insert(place, (time, label))
        del self._told[:-KEPT]

    def of(self, time: float, final: bool = False) -> tuple[bool, float | None]:
        """Return whether it is settled which label a row that ends at ``time`` has, and the label; None for none.

        Args:
            final: whether nobody waits for a further label.
        """
        before = after = None
        for each in self._told:
            if each[0] <= time:
                before = each
            else:
                after = each
                break
        if before is not None and before[0] == time:
            return True, before[1]
        if self._waits and after is None and not final and self._within > 0:
            return False, None
        near = [each for each in (before, after if self._waits else None)
                if each is not None and abs(each[0] - time) <= self._within]  # fmt: skip
        return True, min(near, key=lambda each: abs(each[0] - time))[1] if near else None

    def state(self) -> Any:
        """Return what ``restore`` takes, as JSON has it."""
        return self._told

    def restore(self, state: Any) -> None:
        self._told = [(float(time), float(label)) for time, label in state]


def label_of(value: Any, rule: RowLabel) -> float:
    """Return a told label as a number: the place of its class, where there are classes. Raise Refused where it is
    none of them, or no number."""
    if not rule.classes:
        return number_of(value, rule.field)
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    if text not in rule.classes:
        raise unreadable(rule.field, f"one of {', '.join(rule.classes[:10])}", value)
    return float(rule.classes.index(text))
