"""Fetch models ahead: when a round of a job of this node has closed, before the desired document names the result.

The cloud tells each node that takes part, and only of models that are too large to travel inside the document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

from heliograph.bus.contract.payloads import ModelReady
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import MODEL_READY
from heliograph.bus.port import Port
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask


class ModelPrefetcher:
    """Follows the closed rounds of the jobs that this node works for.

    Args:
        fetch: starts to fetch a model.
        settle: called with uploads that a closed round has settled.
        refused: called with the error of a hint that cannot be read.
    """

    def __init__(
        self, cloud: Port, edge: str, fetch: Callable[[WeightsRef], None],
        settle: Callable[[Collection[str]], Awaitable[None]], refused: Callable[[Refused], None],
    ) -> None:  # fmt: skip
        self._cloud = cloud
        self._edge = edge
        self._fetch = fetch
        self._settle = settle
        self._refused = refused
        self._followed: set[tuple[str, str]] = set()
        """Name and uid of each job whose models this node fetches."""
        self._newest: dict[tuple[str, str], str] = {}

    @property
    def expected(self) -> set[str]:
        """Digests of models that the next document may name: the newest of each followed job."""
        return set(self._newest.values())

    def follow(self, tasks: Collection[WorkerTask]) -> None:
        """Follow the jobs of these tasks, and no others. Skip jobs that do not ask this node."""
        self._followed = {
            (task.job, task.job_uid)
            for task in tasks
            if task.reads_model_file and task.model is not None and task.model.inline is None
        }
        self._newest = {job: digest for job, digest in self._newest.items() if job in self._followed}

    async def run(self) -> None:
        """Fetch the models of closed rounds until cancelled."""
        async with self._cloud.subscribe(MODEL_READY, self._refused, edge=self._edge) as received:
            async for each in received:
                self._take(each.payload)
                await self._settle(each.payload.settled)

    def _take(self, ready: ModelReady) -> None:
        job = ready.job, ready.job_uid
        if job in self._followed and ready.model.inline is None:
            self._newest[job] = ready.model.digest
            self._fetch(ready.model)
