"""Load the versions of a served model that assignments name: read each, try what needs it, and queue it for the script.

A file that a runtime of native code opens stands a trial in a process of its own first, the very first one too: a crash
there would end the worker, again after each start. A script's own arrays go into its model as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from heliograph.bus.contract.payloads import Assignment, CandidateModel, InferTask, ServedModel, ServingTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.inference.serving import Serving
from heliograph.inference.serving_queue import NewCandidate, NewModel, PendingRequest
from heliograph.workers.trial import Trial, objection
from heliograph.workers.weights import read_version

PROVEN_KEPT = 8
"""Digests of versions that have stood their trial, which a worker remembers."""


class VersionLoader:
    """Follows a worker's assignments with the versions that its script serves.

    Args:
        first: the worker's first assignment, which names the script or the format.
        code: directories below which the user's code lies.
    """

    def __init__(self, first: Assignment, code: Sequence[Path], serving: Serving, world: World) -> None:
        self._first = first
        self._code = code
        self._serving = serving
        self._world = world
        self._model = ""
        self._candidate: CandidateModel | None = None
        self._loading: asyncio.Task[None] | None = None
        self._trying: asyncio.Task[None] | None = None
        self._proven: dict[str, None] = {}

    async def follow(self, assignment: Assignment) -> None:
        """Load what an assignment names and has not been loaded. Return when a version that needs no trial is queued,
        and the very first one in any case; other changes do not wait for a trial."""
        task = assignment.task
        assert isinstance(task, ServingTask)
        if task.model is not None and task.model.digest != self._model:
            is_first, self._model = not self._model, task.model.digest
            if self._loading is not None:
                await cancel_and_wait(self._loading)
            source = _source(task.model, assignment.model_file)
            self._loading = asyncio.create_task(self._load(task, task.model.digest, source))
            if is_first or task.served is None or task.model.digest in self._proven:
                await self._loading
        if isinstance(task, InferTask) and task.candidate != self._candidate:
            await self._follow_candidate(task, assignment.files)

    async def close(self) -> None:
        """End the trials that are under way."""
        await cancel_and_wait(*(each for each in (self._loading, self._trying) if each is not None))

    async def _load(self, task: ServingTask, digest: str, source: Path | bytes) -> None:
        """Let a version answer in place of the one before."""
        try:
            why = "" if task.served is None else await self._objection(digest, source, task.served)
            if why:
                raise Refused("failed-trial", field="model", expected="a version that answers", got=why)
            arrays, classes = await self._world.in_thread(read_version, source, _name(digest), task.served)
        except Exception as error:  # whatever is wrong with the file, or a process that cannot be started
            self._serving.health.weights_failed(digest, error)
        else:
            self._serving.enqueue(NewModel(digest, arrays, classes))

    async def _follow_candidate(self, task: InferTask, files: Mapping[str, str]) -> None:
        """Let another version answer a share of the requests, or end that."""
        wanted = self._candidate = task.candidate
        if self._trying is not None:
            await cancel_and_wait(self._trying)
        self._serving.enqueue(NewCandidate())  # the earlier one ends first
        self._trying = asyncio.create_task(self._try(task, wanted, files)) if wanted is not None else None

    async def _try(self, task: InferTask, wanted: CandidateModel, files: Mapping[str, str]) -> None:
        """Let a candidate answer once a process of its own has stood its trial; none that the agent refuses."""
        if wanted.refused:
            self._serving.enqueue(NewCandidate(wanted.model.digest, rejected=wanted.refused))
            return
        digest, source = wanted.model.digest, _source(wanted.model, files.get(wanted.model.digest, ""))
        served = task.served.model_copy(update={"classes": wanted.classes}) if task.served is not None else None
        try:
            why = await self._objection(digest, source, served)
            if not why:
                arrays, classes = await self._world.in_thread(read_version, source, _name(digest), served)
        except Exception as error:  # whatever is wrong with the file, or a process that cannot be started
            why = str(error) or type(error).__name__
        if why:
            self._serving.enqueue(NewCandidate(digest, rejected=why))
        else:
            self._serving.enqueue(NewCandidate(digest, arrays, wanted.share, wanted.salt, classes))

    async def _objection(self, digest: str, source: Path | bytes, served: ServedModel | None) -> str:
        """Return why a version must not answer, by its trial with the last request that was answered; empty where it
        may. One that has stood a trial stands no second one."""
        if digest in self._proven:
            return ""
        asked: PendingRequest | None = self._serving.answered
        topic, body = (asked.topic, asked.body) if asked is not None else ("", b"")
        task = self._first.task.model_copy(update={"served": served})
        first = self._first.model_copy(update={"task": task})
        why = await objection(Trial(first, self._code, digest, source, topic, body), self._world)
        if not why:
            self._proven[digest] = None
            while len(self._proven) > PROVEN_KEPT:
                del self._proven[next(iter(self._proven))]
        return why


def _source(model: WeightsRef, file: str) -> Path | bytes:
    return model.inline if model.inline is not None else Path(file)


def _name(digest: str) -> str:
    return f"model {digest[:12]}"
