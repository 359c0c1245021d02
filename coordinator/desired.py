"""The edges' desired documents: written where their content has changed, each with the next generation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from heliograph.bus import topics
from heliograph.bus.errors import HeliographError
from heliograph.bus.payloads import Desired, Generation, Task
from heliograph.bus.port import Port
from heliograph.bus.resources import CLOUD, Dataset, DatasetSpec


class DesiredWriter:
    """Publishes desired documents, in order per edge, and remembers which could not be published."""

    def __init__(self, port: Port, epoch: int) -> None:
        self._port = port
        self._epoch = epoch
        self._n = 0
        self._written: dict[str, Desired] = {}
        self.behind: set[str] = set()

    async def write(self, wanted: Mapping[str, tuple[list[Task], dict[str, DatasetSpec]]]) -> None:
        """Writes the documents of those edges whose content has changed."""
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
            fresh.append(desired)
        await asyncio.gather(*(self._publish(desired) for desired in fresh))

    async def _publish(self, desired: Desired) -> None:
        self.behind.discard(desired.edge)
        try:
            await self._port.publish(topics.TASK, desired, edge=desired.edge)
        except HeliographError:
            self.behind.add(desired.edge)  # written again at the next resync


def datasets_of(edge: str, datasets: Iterable[Dataset]) -> dict[str, DatasetSpec]:
    """The data sets that an edge is told to index: those that name it, or name nobody."""
    return {
        each.name: each.spec
        for each in datasets
        if each.spec.url is not None and each.spec.node_name in (edge, None) and (each.spec.node_name or edge != CLOUD)
    }
