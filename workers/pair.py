"""The pair worker: run the user's script for the steps of a pair training job: select, train both models, measure."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heliograph import script_process, session
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment, PairResult, PairTask
from heliograph.bus.contract.resources import PairPlan
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, origin, write
from heliograph.core.worker_directory import STAGED
from heliograph.incremental import class_names
from heliograph.session import PairWork
from heliograph.workers.runtime import Runtime, log
from heliograph.workers.script import run_with_host
from heliograph.workers.script_end import ScriptEnd, end_of
from heliograph.workers.script_session import ScriptSession, open_weights, serve_session

if TYPE_CHECKING:
    from heliograph.bus.contract.resources import PairFigures, SelectionFigures
    from heliograph.bus.contract.weights_file import Arrays


class PairWorkerSession(ScriptSession):
    """See ``heliograph.session.PairSession``."""

    task_kind = PairTask

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(runtime, loop)
        self._current: PairTask | None = None
        self._done: tuple[str, int] | None = None

    def begin(self) -> Assignment:
        session.pairing = self
        first = self.wait_for_first()
        script_process.describe(self, self._runtime.environment.directory)
        return first

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        self.close_loop(error)
        refused = script_process.a_child_was_refused(self._runtime.environment.directory)
        return end_of(error, session.reached, refused, kind="PairTrainingJob")

    def next_step(self) -> PairWork | None:
        self.begin_looking()
        session.reached = "worked"
        while True:
            assignment = self.next_assignment()
            if assignment.ended:
                return None
            task = _task_of(assignment)
            key = (task.job_uid, task.round)
            if not task.is_due or key == self._done:
                continue
            try:
                work = _work_of(task, assignment)
            except FileNotFoundError:  # dropped meanwhile: a newer step's files are being fetched
                log(f"turn {task.round}: a file of it is not on this node any more; requesting the present assignment")
                self._call(self._runtime.report_state("hello"))
                continue
            self._done, self._current = key, task
            return work

    def send_selection(self, arrays: Arrays, selected: SelectionFigures, classes: Sequence[str]) -> None:
        self._send(weights=self._staged(arrays, {}), selected=selected, classes=list(classes))

    def send_model(
        self, arrays: Arrays, classes: Sequence[str], num_samples: int, metrics: dict[str, float], seconds: float
    ) -> None:
        weights = self._staged(arrays, class_names.written(classes))
        self._send(weights=weights, classes=list(classes), num_samples=num_samples, metrics=metrics, seconds=seconds)

    def send_figures(self, figures: PairFigures) -> None:
        self._send(figures=figures)

    def _send(self, **made: Any) -> None:
        task = self._task()
        result = PairResult(
            job=task.job, job_uid=task.job_uid, round=task.round, step=task.step, edge=self.edge, **made
        )
        self._call(self._deliver(result))

    async def _deliver(self, result: PairResult) -> None:
        if result.weights is not None:
            placed = await self._runtime.stage_upload(result.weights)
            result = result.model_copy(update={"weights": placed})
        await self._runtime.send(topics.PAIR_RESULT, result, job=result.job, edge=result.edge)

    def _task(self) -> PairTask:
        self.require_main_process()
        assert self._current is not None
        return self._current

    def _staged(self, arrays: Arrays, more: Mapping[str, str]) -> WeightsRef:
        """Write arrays as a file of this turn: equal ones of two turns are different files."""
        task = self._task()
        whose = origin(task.job_uid, task.round, self.edge) | {"step": task.step}
        return write(arrays, self._runtime.environment.directory / STAGED, whose | dict(more))


def _work_of(task: PairTask, assignment: Assignment) -> PairWork:
    def opened(ref: WeightsRef | None) -> TensorFile | None:
        return open_weights(ref, assignment.files.get(ref.digest, "") if ref is not None else None)

    return PairWork(
        step=task.step,
        job=task.job,
        round=task.round,
        plan=task.plan or PairPlan(),
        weights=open_weights(task.model, assignment.model_file),
        selection=opened(task.selection),
        cloud=opened(task.cloud),
        edge=opened(task.edge),
        classes=task.classes,
        parameters=task.parameters,
    )


def _task_of(assignment: Assignment) -> PairTask:
    """Return the task; an agent launches this program for its role only."""
    assert isinstance(assignment.task, PairTask)
    return assignment.task


async def serve(ready: Callable[[PairWorkerSession], None]) -> None:
    """Serve the script until it has ended."""
    await serve_session(PairWorkerSession, ready)


def main() -> int:
    """Run the worker process, and return its exit code."""
    return run_with_host(serve)


if __name__ == "__main__":
    sys.exit(main())
