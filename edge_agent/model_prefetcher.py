"""Fetch models ahead: when a round of a job of this node has closed, before the desired document names the result.

Follow only jobs whose models are too large to travel inside the document: inline models need no fetch, and each of ten
thousand agents would receive every model of every job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from heliograph.bus.contract.payloads import WorkerTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import AGGREGATION
from heliograph.bus.port import Port
from heliograph.core.tasks import cancel_and_wait, keep_running


class ModelPrefetcher:
    """Follows the closed rounds of the jobs that this node works for.

    Args:
        fetch: starts to fetch a model.
        warn: called with a line about a temporary error.
    """

    def __init__(self, cloud: Port, fetch: Callable[[WeightsRef], None], warn: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._fetch = fetch
        self._warn = warn
        self._following: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._newest: dict[tuple[str, str], str] = {}

    @property
    def expected(self) -> set[str]:
        """Digests of models that the next document may name: the newest of each followed job."""
        return set(self._newest.values())

    def follow(self, tasks: Collection[WorkerTask]) -> None:
        """Follow the jobs of these tasks, and no others. Skip jobs that do not ask this node."""
        wanted = {
            (task.job, task.job_uid): None
            for task in tasks
            if task.reads_model_file and task.model is not None and task.model.inline is None
        }
        for job in [job for job in self._following if job not in wanted]:
            self._following.pop(job).cancel()
            self._newest.pop(job, None)
        for job in wanted:
            if job not in self._following:
                part = partial(self._follow, *job)
                self._following[job] = asyncio.create_task(keep_running(part, self._cloud.world, self._warn))

    async def close(self) -> None:
        await cancel_and_wait(*self._following.values())

    async def _follow(self, job: str, uid: str) -> None:
        async with self._cloud.subscribe(AGGREGATION, lambda error: None, job=job) as received:
            async for each in received:
                model = each.payload.model
                if model is not None and model.inline is None and each.payload.job_uid == uid:
                    self._newest[job, uid] = model.digest
                    self._fetch(model)
