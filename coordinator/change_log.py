"""The order in which the resources of one kind changed: what is new since a client last asked. Pure."""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

MOST_GONE = 4096
"""Names of deleted resources that one kind remembers."""


class Change(NamedTuple):
    """One changed resource.

    Attributes:
        number: place of its newest change; higher is later.
        gone: whether it was deleted.
    """

    number: int
    name: str
    gone: bool


class ChangeLog:
    """Each name with the number of its newest change, in the order of these.

    Attributes:
        count: number of the newest change; 0 before the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[str, int] = {}
        self._gone: dict[str, None] = {}
        self._forgotten = 0
        """Number of the newest deletion that is no longer remembered."""

    def add(self, name: str, gone: bool = False) -> None:
        """Note a change of a resource; ``gone`` where it was deleted."""
        self.count += 1
        self._numbers.pop(name, None)
        self._numbers[name] = self.count
        self._gone.pop(name, None)
        if gone:
            self._gone[name] = None
            if len(self._gone) > MOST_GONE:
                oldest = next(iter(self._gone))
                del self._gone[oldest]
                self._forgotten = self._numbers.pop(oldest)

    def since(self, number: int) -> list[Change] | None:
        """Return the newest change of each resource that changed after ``number``, oldest first. Return None where that
        is not known: it was never reached, or a deletion since is forgotten."""
        if not self._forgotten <= number <= self.count:
            return None
        newer = takewhile(lambda each: each[1] > number, reversed(self._numbers.items()))
        return [Change(at, name, name in self._gone) for name, at in newer][::-1]
