"""The edges' desired documents: written where their content has changed, each with the next generation.

Each is written by compare-and-set: a coordinator that has lost its lease and does not know it yet can not put an older
document in the place of its successor's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping

from heliograph.bus.contract import topics
from heliograph.bus.contract.lanes import EXPECTED_LAST
from heliograph.bus.contract.payloads import Desired, Generation, WorkerTask
from heliograph.bus.contract.resources import Dataset, DatasetSpec
from heliograph.bus.port import Port
from heliograph.core.errors import Conflict, HeliographError, Refused
from heliograph.core.names import CLOUD


class DesiredWriter:
    """Publishes desired documents, in order per edge, and keeps account of those that could not be published."""

    def __init__(self, port: Port, epoch: int) -> None:
        self._port = port
        self._epoch = epoch
        self._n = 0
        self._written: dict[str, Desired] = {}
        self._sequences: dict[str, int] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.behind: set[str] = set()

    async def write(self, wanted: Mapping[str, tuple[list[WorkerTask], dict[str, DatasetSpec]]]) -> None:
        """Write the documents with new content."""
        fresh = []
        for edge, (tasks, datasets) in wanted.items():
            before = self._written.get(edge)
            if before is not None and before.tasks == tasks and before.datasets == datasets and edge not in self.behind:
                continue
            self._n += 1
            desired = Desired(
                edge=edge, generation=Generation(epoch=self._epoch, n=self._n), tasks=tasks, datasets=datasets
            )
            self._written[edge] = desired
            self.behind.discard(edge)
            fresh.append(desired)
        await asyncio.gather(*(self._publish(desired) for desired in fresh))

    async def _publish(self, desired: Desired) -> None:
        edge = desired.edge
        async with self._locks[edge]:
            if self._written[edge] is not desired:
                return  # a newer one waits behind it
            try:
                expected = self._sequences.pop(edge, None)
                if expected is None:
                    expected = await self._newest(edge)
                self._sequences[edge] = await self._port.publish(
                    topics.TASK, desired, headers={EXPECTED_LAST: str(expected)}, edge=edge
                )
            except HeliographError:
                self.behind.add(edge)  # written again at the next resync

    async def _newest(self, edge: str) -> int:
        """Return the sequence of the edge's present document. Raises Conflict where a newer coordinator wrote it."""
        message = await self._port.bus.last(topics.TASK.at(edge=edge))
        if message is None:
            return 0
        try:
            present = self._port.read(topics.TASK, message).payload
        except Refused:
            return message.sequence  # whatever it is, no agent takes it
        if present.generation.epoch > self._epoch:
            raise Conflict(f"desired document of {edge}: epoch {present.generation.epoch} is above {self._epoch}")
        return message.sequence


def datasets_of(edge: str, datasets: Iterable[Dataset]) -> dict[str, DatasetSpec]:
    """The data sets that an edge shall index: those that name it, or name no edge."""
    return {
        each.name: each.spec
        for each in datasets
        if each.spec.url is not None and each.spec.node_name in (edge, None) and (each.spec.node_name or edge != CLOUD)
    }
