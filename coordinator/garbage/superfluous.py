"""One thing that has come to the end of its life, and how to delete it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from heliograph.bus.contract.garbage import GarbageItem, Kind


@dataclass(frozen=True)
class Superfluous:
    """A thing to delete.

    Attributes:
        delete: deletes it, unless it is needed again by now; returns whether it was deleted.
        size: bytes that are free without it.
    """

    kind: Kind
    name: str
    reason: str
    delete: Callable[[], Awaitable[bool]]
    size: int = 0

    @property
    def item(self) -> GarbageItem:
        return GarbageItem(kind=self.kind, name=self.name, size=self.size, reason=self.reason)
