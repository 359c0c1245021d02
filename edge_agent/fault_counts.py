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

SAVE_EVERY = 0.1
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
    """The counts of a node. They outlive its agent: a clean end loses none, a kill those that no commit had reached.

    Args:
        since_start: returns the counts since the agent's start.
        kept: called once grown counts are on the disk, or found no room there, with whether there is news among them: a
            new kind of fault, or a new device's.

    Attributes:
        shown: the counts since the journal was created that others may know: no restart takes them back.
    """

    def __init__(
        self, journal: Journal, world: World, background: Background, since_start: Callable[[], Faults],
        kept: Callable[[bool], None],
    ) -> None:  # fmt: skip
        self._journal = journal
        self._world = world
        self._background = background
        self._since_start = since_start
        self._kept = kept
        self._before = self._saved = self.shown = _read(journal.load(FAULTS))
        self._news = False
        self._saving = False

    def grown(self, news: bool = False) -> None:
        """Save the counts soon; call this whenever one has grown."""
        self._news = self._news or news
        if not self._saving:
            self._saving = True
            self._background.spawn(self._save_while_growing())

    async def save(self) -> None:
        """Save the counts, if the disk has room."""
        total = self._total()
        if total != self._saved:
            with contextlib.suppress(HeliographError):
                await self._journal.save(FAULTS, json.dumps(asdict(total)).encode())
                self._saved = total

    async def _save_while_growing(self) -> None:
        try:
            while (total := self._total()) != self.shown:
                news, self._news = self._news, False
                await self.save()  # the journal says what is wrong with its disk
                self.shown = total
                self._kept(news)
                await self._world.sleep(SAVE_EVERY)
        finally:
            self._saving = self._news = False

    def _total(self) -> Faults:
        return self._before + self._since_start()


def _read(kept: bytes) -> Faults:
    """Return the kept counts; none where there are none that can be read."""
    try:
        found = Faults(**json.loads(kept))
    except (ValueError, TypeError):
        return Faults()
    whole = all(type(each) is int and each >= 0 for each in asdict(found).values())
    return found if whole else Faults()
