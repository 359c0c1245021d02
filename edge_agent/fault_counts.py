"""How often devices and workers were at fault, counted since the journal was created and kept in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from heliograph.core.errors import HeliographError
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.edge_agent.journal import Journal

SAVE_EVERY = 1.0
"""Seconds between two commits of the counts, at least: a flood of bad messages is not one of commits."""
FAULTS = "faults"
"""Key of their document in the journal."""


@dataclass(frozen=True)
class Faults:
    """Counts.

    Attributes:
        refused: messages on the node's broker that were forged, or no valid events.
        anomalous: events by which a producer broke its numbering, or used another's incarnation.
        unplaced: messages of devices that no rule of the node's mapping takes.
    """

    refused: int = 0
    anomalous: int = 0
    unplaced: int = 0

    def __add__(self, other: Faults) -> Faults:
        return Faults(self.refused + other.refused, self.anomalous + other.anomalous, self.unplaced + other.unplaced)


class FaultCounts:
    """The counts of a node. They outlive its agent: a clean end loses none, a kill those of the last second at most.

    Args:
        since_start: returns the counts since the agent's start.
    """

    def __init__(
        self, journal: Journal, world: World, background: Background, since_start: Callable[[], Faults]
    ) -> None:
        self._journal = journal
        self._world = world
        self._background = background
        self._since_start = since_start
        self._before = self._saved = _read(journal.load(FAULTS))
        self._saving = False

    @property
    def total(self) -> Faults:
        """The counts since the journal was created."""
        return self._before + self._since_start()

    def changed(self) -> None:
        """Save the counts soon; call this whenever one has grown."""
        if not self._saving:
            self._saving = True
            self._background.spawn(self._save_while_growing())

    async def close(self) -> None:
        """Save the counts, if the disk has room."""
        with contextlib.suppress(HeliographError):
            await self._save()

    async def _save_while_growing(self) -> None:
        try:
            while self.total != self._saved:
                with contextlib.suppress(HeliographError):  # the journal says what is wrong with its disk
                    await self._save()
                await self._world.sleep(SAVE_EVERY)
        finally:
            self._saving = False

    async def _save(self) -> None:
        total = self.total
        if total != self._saved:
            await self._journal.save(FAULTS, json.dumps(asdict(total)).encode())
            self._saved = total


def _read(kept: bytes) -> Faults:
    """Return the kept counts; none where there are none that can be read."""
    try:
        found = Faults(**json.loads(kept))
    except (ValueError, TypeError):
        return Faults()
    whole = all(type(each) is int and each >= 0 for each in asdict(found).values())
    return found if whole else Faults()
