"""How far a node's clock was off while it gave events their time: known once the clock has been set. Pure.

A node without a clock of its own starts in 1970, or where it was switched off. The time service sets its clock some
minutes later, and the difference between the clock and the time since the machine's boot jumps by what was missing. The
difference at each journalled event says how far the clock was off then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

STEP = 10.0
"""Seconds by which a clock is set, at least, to count: a time service that slews moves it by less."""
MOST = 64
"""Stretches that are remembered; events of earlier ones are not marked."""


@dataclass(frozen=True)
class Stretch:
    """A time in which the clock went on without a jump.

    Attributes:
        first: by lane, the number of the first event that was journalled in it.
        boot: identifies the machine's boot.
        base: the clock's seconds since 1970 at the boot, as the clock had it in this stretch.
    """

    first: Mapping[int, int]
    boot: str
    base: float


class NodeClock:
    """The stretches of a journal's events.

    Args:
        stored: what ``encoded`` returned in an earlier life; anything else counts as nothing.
        boot: identifies the present boot.
    """

    def __init__(self, stored: bytes, boot: str) -> None:
        self._boot = boot
        self._stretches = _decoded(stored)

    def observe(self, base: float, following: Mapping[int, int]) -> float | None:
        """Take the present base. Where the machine has started, or its clock has been set, since the last time, begin a
        stretch and return the seconds by which it was set; else return None.

        Args:
            following: by lane, the number that the next event gets.
        """
        last = self._stretches[-1] if self._stretches else None
        same_boot = last is not None and last.boot == self._boot
        set_by = base - last.base if last is not None and same_boot else 0.0
        if same_boot and abs(set_by) <= STEP:
            return None
        self._stretches = [*self._stretches[1 - MOST :], Stretch(dict(following), self._boot, base)]
        return set_by

    def offset(self, lane: int, n: int, base: float) -> float:
        """Return the seconds to add to the time of an event; 0 where the clock was right, or nobody knows.

        Args:
            base: the present base.
        """
        found = None
        later = base  # of an earlier boot only what the clock said at its end is known
        for each in reversed(self._stretches):
            if found is None or found.boot != each.boot:
                later = base if each.boot == self._boot else each.base
            found = each
            if each.first.get(lane, 0) <= n:
                break
        else:
            return 0.0
        return later - found.base if abs(later - found.base) > STEP else 0.0

    def renumber(self, lane: int, behind: int, by: int) -> None:
        """Follow the journal, whose events of a lane behind a number have numbers higher by ``by`` from now on."""
        self._stretches = [
            replace(each, first={**each.first, lane: n + by}) if (n := each.first.get(lane, 0)) > behind else each
            for each in self._stretches
        ]

    def encoded(self) -> bytes:
        """Return the stretches for the next life."""
        return json.dumps([[each.boot, each.base, sorted(each.first.items())] for each in self._stretches]).encode()


def _decoded(stored: bytes) -> list[Stretch]:
    try:
        return [
            Stretch({int(lane): int(n) for lane, n in first}, str(boot), float(base))
            for boot, base, first in json.loads(stored)
        ][-MOST:]
    except (ValueError, TypeError, RecursionError):
        return []
