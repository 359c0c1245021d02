"""The loops of a node that has none yet: what runs them is loaded with the first one. Few nodes have any."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.payloads import Desired
from heliograph.bus.contract.topics import Topic
from heliograph.core.tasks import Flag
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import LoopReport, WorkerTask
    from heliograph.edge_agent.edge_loops import EdgeLoops

LOOPS = "loop/"
"""Prefix of the loops' documents in the journal."""


class NodeLoops:
    """What the agent asks of its loops; ``EdgeLoops`` answers as soon as the journal or a document has one.

    Args:
        make: returns the node's ``EdgeLoops``.
    """

    def __init__(self, journal: Journal, make: Callable[[], EdgeLoops]) -> None:
        self._make = make
        self._made = Flag()
        self._loops: EdgeLoops | None = None
        if any(journal.documents(LOOPS)):  # at once: the files that they need would be deleted
            self._load()

    def follow(self, desired: Desired, is_present: bool) -> None:
        if self._loops is None and desired.loops:
            self._load()
        if self._loops is not None:
            self._loops.follow(desired, is_present)

    def applied(self, desired: Desired) -> Desired:
        return desired if self._loops is None else self._loops.applied(desired)

    def from_elsewhere(self, task: WorkerTask) -> WorkerTask:
        return task if self._loops is None else self._loops.from_elsewhere(task)

    @property
    def needed(self) -> set[str]:
        return set() if self._loops is None else self._loops.needed

    def reports(self) -> dict[str, LoopReport]:
        return {} if self._loops is None else self._loops.reports()

    def hold_back(self, topic: Topic[Any], event: Event, entry: NewEvent) -> NewEvent:
        return entry if self._loops is None else self._loops.hold_back(topic, event, entry)

    def look(self) -> None:
        if self._loops is not None:
            self._loops.look()

    async def run(self) -> None:
        """Wait for the first loop; then take the loops' steps until cancelled."""
        await self._made.wait()
        assert self._loops is not None
        await self._loops.run()

    def _load(self) -> None:
        self._loops = self._make()
        self._made.set()
