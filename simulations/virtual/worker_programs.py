"""The programs of a simulated agent's workers: the shipped aggregation worker, and workers that run a workload."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment, DatasetTask, EvaluateTask, Evaluation, ModelUpdate
from heliograph.bus.contract.weights_file import TensorFile, origin, write
from heliograph.core.world import World
from heliograph.simulations.virtual.learning_workers import LearnWorker, PairWorker
from heliograph.simulations.virtual.learning_workload import LearningWorkload
from heliograph.simulations.virtual.serving_worker import ServingWorker
from heliograph.simulations.virtual.workload import Computed, Workload
from heliograph.simulations.virtual.worlds import Program
from heliograph.workers.aggregation.worker import Aggregator
from heliograph.workers.runtime import Runtime, WorkerEnvironment

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


def worker_programs(
    workload: Workload, speed: Callable[[str], float], learning: LearningWorkload | None = None
) -> dict[str, Program]:
    """Return the workers' programs by role.

    Args:
        speed: function that returns an edge's factor on the speed of computing.
        learning: the computing of learning jobs and of services; without it there are no programs for them.
    """

    models = Models()

    async def train(launch: WorkerEnvironment, world: World) -> int:
        async with Runtime(launch, world) as runtime:
            await Trainer(runtime, workload, speed(launch.edge), models).run()
        return 0

    async def aggregate(launch: WorkerEnvironment, world: World) -> int:
        async with Runtime(launch, world) as runtime:
            await Aggregator(runtime).run()
        return 0

    found: dict[str, Program] = {"train": train, "evaluate": train, "aggregate": aggregate}
    return found if learning is None else found | _learning_programs(learning, speed)


def _learning_programs(learning: LearningWorkload, speed: Callable[[str], float]) -> dict[str, Program]:
    def program(kind: type[LearnWorker | PairWorker | ServingWorker]) -> Program:
        async def run(launch: WorkerEnvironment, world: World) -> int:
            async with Runtime(launch, world) as runtime:
                await kind(runtime, learning, speed(launch.edge)).run()
            return 0

        return run

    serving = program(ServingWorker)
    return {"learn": program(LearnWorker), "pair": program(PairWorker), "infer": serving, "big-model": serving}


class Trainer:
    """A training or evaluation worker. Of the assignments received while it computes, it follows only the newest."""

    def __init__(self, runtime: Runtime, workload: Workload, speed: float, models: Models) -> None:
        self._runtime = runtime
        self._workload = workload
        self._speed = speed
        self._models = models
        self._next: Assignment | None = None
        self._done: tuple[str, int, str | None] | None = None
        self._working: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until the job has ended."""
        try:
            await self._runtime.assignments(self._receive)
        finally:
            if self._working is not None:
                self._working.cancel()

    async def _receive(self, assignment: Assignment) -> None:
        if assignment.ended or not assignment.task.is_due:
            return
        self._next = assignment
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while (assignment := self._next) is not None:
            self._next = None
            task = _task_of(assignment)
            key = (task.job_uid, task.round, task.model.digest if task.model is not None else None)
            if key == self._done:
                continue
            try:
                weights = self._models.of(assignment)
            except FileNotFoundError:  # the node has dropped the model, because a newer round's model is on its way
                await self._runtime.report_state("hello")
                continue
            computed = self._compute(assignment, weights)
            await self._runtime.world.sleep(computed.seconds / self._speed)
            await self._send(assignment, computed)
            self._done = key

    def _compute(self, assignment: Assignment, weights: Arrays) -> Computed:
        task = _task_of(assignment)
        if isinstance(task, EvaluateTask):
            return self._workload.evaluate(weights, task.parameters)
        if not weights:
            return self._workload.initial(assignment.edge, task.parameters)
        return self._workload.train(assignment.edge, task.round, weights, task.parameters)

    async def _send(self, assignment: Assignment, computed: Computed) -> None:
        task, runtime = _task_of(assignment), self._runtime
        base = task.model.digest if task.model is not None else None
        if isinstance(task, EvaluateTask):
            evaluation = Evaluation(job=task.job, job_uid=task.job_uid, round=task.round, model=base or "",
                                    metrics=dict(computed.metrics), num_samples=computed.num_samples)  # fmt: skip
            await runtime.send(topics.EVALUATION, evaluation, job=task.job, edge=assignment.edge)
            return
        mine = origin(task.job_uid, task.round, assignment.edge)
        weights = await runtime.stage_upload(write(computed.arrays, runtime.environment.directory / "staged", mine))
        update = ModelUpdate(
            job=task.job, job_uid=task.job_uid, round=task.round, edge=assignment.edge, base=base, weights=weights,
            num_samples=computed.num_samples, metrics=dict(computed.metrics),
        )  # fmt: skip
        await runtime.send(topics.MODEL_UPDATE, update, job=task.job, edge=assignment.edge)


def _task_of(assignment: Assignment) -> DatasetTask:
    assert isinstance(assignment.task, DatasetTask)
    return assignment.task


class Models:
    """The weights of assignments, read-only. The last small model is kept, because thousands of edges share it."""

    def __init__(self) -> None:
        self._digest = ""
        self._arrays: Arrays = {}

    def of(self, assignment: Assignment) -> Arrays:
        """Return an assignment's weights. Raises FileNotFoundError if the node has dropped the model meanwhile."""
        model = assignment.task.loaded
        if model is None:
            return {}
        if model.inline is None:  # copies, because views would keep the file open while the worker computes
            with TensorFile(Path(assignment.model_file)) as file:
                return {name: array.copy() for name, array in file.arrays().items()}
        if model.digest != self._digest:
            self._digest, self._arrays = model.digest, TensorFile(model.inline).arrays()
        return self._arrays
