"""Simulated workers of learning jobs: they take the steps of a learn or a pair worker, and a workload computes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment, Candidate, DatasetTask, LearnTask, PairResult, PairTask
from heliograph.bus.contract.payloads import VerdictReport as Verdict
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, origin, write
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.incremental.shards import ids_of
from heliograph.simulations.virtual.learning_workload import LearningWorkload, ReadShard
from heliograph.workers.runtime import Runtime

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays

T = TypeVar("T", bound=DatasetTask)
SECONDS = 0.5
"""Duration of an evaluation at speed 1."""


class _StepWorker(ABC, Generic[T]):
    """A worker that takes one step of a job after the other. Of the assignments received while it computes, it follows
    only the newest; a step that is done is not begun again."""

    kind: type[T]

    def __init__(self, runtime: Runtime, workload: LearningWorkload, speed: float) -> None:
        self._runtime = runtime
        self._workload = workload
        self._speed = speed
        self._next: Assignment | None = None
        self._done: tuple[object, ...] = ()
        self._working: asyncio.Task[None] | None = None
        self._failure: HeliographError | None = None
        self._failed = asyncio.Event()

    async def run(self) -> None:
        """Run until the job has ended. Raise HeliographError where the script fails."""
        following = asyncio.create_task(self._runtime.assignments(self._receive, self.kind))
        ended = asyncio.create_task(self._failed.wait())
        try:
            await asyncio.wait((following, ended), return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            await following
        finally:
            await cancel_and_wait(following, ended, *([self._working] if self._working is not None else []))

    async def _receive(self, assignment: Assignment) -> None:
        if assignment.ended or not assignment.task.is_due:
            return
        self._next = assignment
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while (assignment := self._next) is not None:
            self._next = None
            task = assignment.task
            assert isinstance(task, self.kind)
            key = self._key(task)
            if key == self._done:
                continue
            try:
                await self._take_step(assignment, task)
            except HeliographError as error:  # the script's
                self._failure = error
                self._failed.set()
                return
            except FileNotFoundError:  # the node has dropped it, because a newer step's files are on their way
                await self._runtime.report_state("hello")
                continue
            self._done = key

    async def _compute_for(self, seconds: float) -> None:
        await self._runtime.world.sleep(seconds / self._speed)

    async def _staged(self, arrays: Arrays, task: DatasetTask, **more: str) -> WeightsRef:
        """Write arrays as a file of this step: equal ones of two steps are different files."""
        whose = origin(task.job_uid, task.round, self._runtime.environment.edge) | more
        return await self._runtime.stage_upload(write(arrays, self._runtime.environment.directory / "staged", whose))

    @abstractmethod
    def _key(self, task: T) -> tuple[object, ...]:
        """Return what makes a task another piece of work."""

    @abstractmethod
    async def _take_step(self, assignment: Assignment, task: T) -> None:
        """Do the work and send what it has made. Raise FileNotFoundError where a file of it is not on the node."""


class LearnWorker(_StepWorker[LearnTask]):
    """Trains candidates and measures them, as ``workers.learn`` does."""

    kind = LearnTask

    def _key(self, task: LearnTask) -> tuple[object, ...]:
        base = task.model.digest if task.model is not None else None
        return task.job_uid, task.round, task.step, task.attempt, base

    async def _take_step(self, assignment: Assignment, task: LearnTask) -> None:
        shards = [_read(each, assignment) for each in task.shards]
        if task.step == "train":
            await self._train(assignment, task, shards)
            return
        _arrays(task.model, assignment.model_file)
        _arrays(task.champion, _place(task.champion, assignment))
        await self._compute_for(SECONDS)
        assert task.model is not None
        report = Verdict(
            job=task.job, job_uid=task.job_uid, round=task.round, attempt=task.attempt, edge=assignment.edge,
            model=task.learns, candidate=task.model.digest,
            champion=task.champion.digest if task.champion is not None else None,
            figures=self._workload.judge(assignment.edge, task, shards),
        )  # fmt: skip
        await self._runtime.send(topics.VERDICT, report, job=task.job, edge=assignment.edge)

    async def _train(self, assignment: Assignment, task: LearnTask, shards: list[ReadShard]) -> None:
        base = _arrays(task.model, assignment.model_file)
        memory = _arrays(task.memory, _place(task.memory, assignment))
        computed = self._workload.learn(assignment.edge, task, base, shards)
        await self._compute_for(computed.seconds)
        more = {"attempt": str(task.attempt), "model": task.learns}
        made = Candidate(
            job=task.job, job_uid=task.job_uid, round=task.round, attempt=task.attempt, edge=assignment.edge,
            model=task.learns, base=task.model.digest if task.model is not None else None,
            weights=await self._staged(computed.arrays, task, **more),
            memory=await self._staged(memory or {"seen": computed.arrays["steps"]}, task, memory="1", **more),
            classes=task.classes, num_samples=computed.num_samples,
        )  # fmt: skip
        await self._runtime.send(topics.CANDIDATE, made, job=task.job, edge=assignment.edge)


class PairWorker(_StepWorker[PairTask]):
    """Selects samples, trains two models and measures them, as ``workers.pair`` does."""

    kind = PairTask

    def _key(self, task: PairTask) -> tuple[object, ...]:
        return task.job_uid, task.round

    async def _take_step(self, assignment: Assignment, task: PairTask) -> None:
        for ref in task.besides:
            _arrays(ref, _place(ref, assignment))
        _arrays(task.model, assignment.model_file)
        made: dict[str, Any] = {"classes": ["a", "b"]}
        if task.step == "measuring":
            await self._compute_for(SECONDS)
            made = {"figures": self._workload.measure(assignment.edge, task)}
        else:
            computed = self._workload.train_one(assignment.edge, task)
            await self._compute_for(computed.seconds)
            made["weights"] = await self._staged(computed.arrays, task, step=task.step)
            made["num_samples"] = computed.num_samples
        result = PairResult(job=task.job, job_uid=task.job_uid, round=task.round, step=task.step,
                            edge=assignment.edge, **made)  # fmt: skip
        await self._runtime.send(topics.PAIR_RESULT, result, job=task.job, edge=assignment.edge)


def _place(ref: WeightsRef | None, assignment: Assignment) -> str:
    return assignment.files.get(ref.digest, "") if ref is not None else ""


def _arrays(ref: WeightsRef | None, file: str) -> Arrays:
    """Return copies of a file's arrays; nothing for no file."""
    if ref is None:
        return {}
    with TensorFile(ref.inline if ref.inline is not None else Path(file)) as opened:
        return {name: array.copy() for name, array in opened.arrays().items()}


def _read(ref: Any, assignment: Assignment) -> ReadShard:
    weights: WeightsRef = ref.weights
    with TensorFile(weights.inline if weights.inline is not None else Path(_place(weights, assignment))) as opened:
        return ReadShard(ref, ids_of(opened), [int(each) for each in opened.numpy("y")])
