"""Watch the room on this node: its disk and its journal. Say what is full, and what to do, before anything is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from heliograph.core.world import World

EVERY = 10.0
"""Seconds between two looks."""
MB = 1 << 20
LOW, ENOUGH = 64 * MB, 96 * MB
"""Free bytes of the disk below which it is said to be full, and above which it has room again."""
FULL, ROOM_AGAIN = 0.9, 0.8
"""Part of the journal's quota that is taken, likewise."""


class NodeRoom:
    """Looks at disk and journal until cancelled.

    Args:
        state: the agent's directory.
        used: returns the bytes of events that wait in the journal; ``quota`` is the most.
        refused: returns why the cloud has no room for this edge's uploads; empty while it has.
        changed: called when ``full`` has changed.
    """

    def __init__(
        self, state: Path, used: Callable[[], int], quota: int, refused: Callable[[], str], world: World,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._state = state
        self._used = used
        self._quota = quota
        self._refused = refused
        self._world = world
        self._changed = changed
        self._disk = self._journal = False
        self.full: list[str] = []
        """What has no room left, a sentence each; they say no number that changes all the time."""

    async def run(self) -> None:
        while True:
            free = await self._world.in_thread(_free, self._state)
            if (found := self._look(free)) != self.full:
                self.full = found
                self._changed()
            await self._world.sleep(EVERY)

    def _look(self, free: int) -> list[str]:
        self._disk = free < (ENOUGH if self._disk else LOW)
        self._journal = self._used() > self._quota * (ROOM_AGAIN if self._journal else FULL)
        found = []
        if self._disk:
            found.append(f"the disk of {self._state} has less than {LOW // MB} MB left: neither models nor events can "
                         "be stored. Make room on it, or start the agent with its --state on another one")  # fmt: skip
        if self._journal:
            found.append(f"the journal has no room left, more than {FULL:.0%} of {self._quota // MB} MB wait for the "
                         "cloud: then updates are refused and the oldest telemetry is dropped. Mend the link to the "
                         "cloud, or start the agent with a larger --journal-mb")  # fmt: skip
        if refused := self._refused():
            found.append(f"the cloud takes none of this edge's uploads: {refused}")
        return found


def _free(directory: Path) -> int:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return ENOUGH  # its own failure says more
