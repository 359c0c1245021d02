"""A simulated inference worker: it loads the versions that it is assigned, counts answers, and sends hard samples."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import (
    Assignment,
    HardSample,
    InferenceStats,
    InferTask,
    ServingTask,
    VersionStats,
)
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.tasks import cancel_and_wait
from heliograph.simulations.virtual.learning_workload import LearningWorkload
from heliograph.workers.runtime import Runtime

TRIAL_SECONDS = 0.2
PUBLISH_EVERY = 1.0
REQUESTS = 10
"""Requests that each version answers from one publication of the counts to the next."""
MOST_REQUESTS = 60
"""Requests after which a version is not asked any more: counts that never change cost no messages."""
ERRORS = 5
"""Of these requests, those that a version which does not stand its canary answers by an error."""


class ServingWorker:
    """One service's worker on a node, without requests from devices: what they would lead to is drawn."""

    def __init__(self, runtime: Runtime, workload: LearningWorkload, speed: float) -> None:
        self._runtime = runtime
        self._workload = workload
        self._speed = speed
        self._task: ServingTask | None = None
        self._asked = ""
        """The digest that was loaded, or could not be: another attempt would find the same file."""
        self._model = ""
        self._candidate = ""
        self._wanted: WeightsRef | None = None
        self._trial: asyncio.Task[None] | None = None
        self._counts: dict[str, VersionStats] = {}

    async def run(self) -> None:
        """Serve until the service has ended."""
        parts: list[asyncio.Task[None]] = []

        async def receive(assignment: Assignment) -> None:
            if assignment.ended:
                return
            await self._assign(assignment)
            if not parts and isinstance(assignment.task, InferTask):
                parts.extend(asyncio.create_task(part()) for part in (self._send_samples, self._publish_counts))

        try:
            await self._runtime.assignments(receive, ServingTask)
        finally:
            await cancel_and_wait(*parts, *([self._trial] if self._trial is not None else []))

    async def _assign(self, assignment: Assignment) -> None:
        assert isinstance(assignment.task, ServingTask)
        task = self._task = assignment.task
        if task.model is not None and task.model.digest != self._asked:
            self._asked = task.model.digest
            if _can_be_read(task.model, assignment.model_file):
                self._model = task.model.digest
                self._tell()
        wanted = task.candidate.model if isinstance(task, InferTask) and task.candidate is not None else None
        if wanted == self._wanted:
            return
        self._wanted, self._candidate = wanted, ""
        if self._trial is not None:
            await cancel_and_wait(self._trial)
            self._trial = None
        self._tell()
        if wanted is not None:
            self._trial = asyncio.create_task(self._try(wanted, assignment.files.get(wanted.digest, "")))

    async def _try(self, wanted: WeightsRef, file: str) -> None:
        """Let a version answer a share of the requests once it has stood its trial."""
        await self._runtime.world.sleep(TRIAL_SECONDS / self._speed)
        if _can_be_read(wanted, file):
            self._candidate = wanted.digest
            self._tell()
        else:
            self._counts[wanted.digest] = VersionStats(rejected=1)

    def _tell(self) -> None:
        assert self._task is not None
        self._workload.serves(self._runtime.environment.edge, self._task.job, self._model, self._candidate)

    async def _send_samples(self) -> None:
        assert self._task is not None
        edge, service = self._runtime.environment.edge, self._task.job
        while (job := self._task.inference.hard_samples_to) is not None:
            await self._runtime.world.sleep(self._workload.pause(service))
            arrays = self._workload.next_sample(edge, service)
            if arrays is None:
                return
            data = dumps(arrays)
            digest = hashlib.sha256(data).hexdigest()
            sample = HardSample(job=job, edge=edge, sample=digest, model=self._model,
                                data=WeightsRef(digest=digest, size=len(data), inline=data))  # fmt: skip
            await self._runtime.send(topics.HARD_SAMPLE, sample, job=job, edge=edge)

    async def _publish_counts(self) -> None:
        told: InferenceStats | None = None
        while True:
            for digest in filter(None, (self._model, self._candidate)):
                self._counts[digest] = self._counted(digest)
            stats = self._stats()
            if stats != told:
                await self._runtime.send(topics.INFERENCE_STATS, stats, service=stats.service, edge=stats.edge,
                                         worker=stats.worker)  # fmt: skip
                told = stats
            await self._runtime.world.sleep(PUBLISH_EVERY)

    def _counted(self, digest: str) -> VersionStats:
        before = self._counts.get(digest, VersionStats())
        if before.requests >= MOST_REQUESTS:
            return before
        errors = 0 if self._workload.stands(digest) else ERRORS
        return before.model_copy(update={"requests": before.requests + REQUESTS, "errors": before.errors + errors})

    def _stats(self) -> InferenceStats:
        environment, task = self._runtime.environment, self._task
        assert task is not None
        answered = sum(each.requests for each in self._counts.values())
        return InferenceStats(
            service=task.job, service_uid=task.job_uid, edge=environment.edge, worker=environment.worker,
            incarnation=self._runtime.incarnation, by_edge=answered, model=self._model, ready=bool(self._model),
            versions=dict(self._counts),
        )  # fmt: skip


def _can_be_read(ref: WeightsRef, file: str) -> bool:
    if ref.inline is not None:
        return True
    try:
        TensorFile(Path(file)).close()
    except OSError:
        return False
    return True
