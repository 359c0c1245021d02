"""The training worker, also the evaluation worker: run the user's script, with the event loop in a second thread.

The script keeps the main thread, so it may use signals, processes and frameworks as it does outside a worker.
"""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from heliograph import session
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment, DatasetTask, EvaluateTask, Evaluation, ModelUpdate, TrainTask
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, origin, write
from heliograph.core.world import World
from heliograph.session import Work
from heliograph.workers.runtime import Runtime, WorkerEnvironment, log
from heliograph.workers.script import run_with_host

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


T = TypeVar("T")


class WorkerSession:
    """The script's side of a worker; see ``heliograph.session.Session``. Its calls block the script's thread."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        self._runtime = runtime
        self._loop = loop
        self._assigned: queue.SimpleQueue[Assignment] = queue.SimpleQueue()
        self._current: Assignment | None = None
        self._done: tuple[str, int, str | None] | None = None
        self._first: Assignment | None = None
        self.finished = asyncio.Event()
        self.edge = runtime.environment.edge
        self.job = ""
        self.dataset: Path | None = None
        self.dataset_samples = 0
        self.parameters: dict[str, Scalar] = {}

    @property
    def code(self) -> Sequence[Path]:
        return self._runtime.environment.code

    def put(self, assignment: Assignment) -> None:
        """Hand over a new assignment; called in the event loop's thread."""
        self._assigned.put(assignment)

    def begin(self) -> Assignment:
        session.current = self
        return self.wait_for_first()

    def failed(self, line: str) -> None:
        self._call(self._runtime.report_state("failed", detail=line))

    def finish(self) -> None:
        """Let the bus's thread deliver the last events and end; called when the script has ended."""
        self._loop.call_soon_threadsafe(self.finished.set)

    def wait_for_first(self) -> Assignment:
        """Wait for the first assignment: it names script and data set."""
        self._first = self._assigned.get()
        self._describe(self._first)
        return self._first

    def next_work(self) -> Work | None:
        while True:
            assignment, self._first = self._first or self._assigned.get(), None
            while not self._assigned.empty():  # an earlier one is superseded
                assignment = self._assigned.get()
            self._describe(assignment)
            task = _task_of(assignment)
            if assignment.ended:
                return None
            base = task.model.digest if task.model is not None else None
            key = (task.job_uid, task.round, base)
            if not task.is_due or key == self._done:
                continue
            try:
                work = self._work(assignment)
            except FileNotFoundError:  # dropped meanwhile: a newer round's model is being fetched
                log(f"round {task.round}: its model is not on this node any more; requesting the present assignment")
                self._call(self._runtime.report_state("hello"))
                continue
            self._done = key
            self._current = assignment
            return work

    def send_update(self, arrays: Arrays, num_samples: int, metrics: dict[str, float]) -> None:
        assert self._current is not None
        task = _task_of(self._current)
        update_origin = origin(task.job_uid, task.round, self.edge)
        written = write(arrays, self._runtime.environment.directory / "staged", update_origin)
        weights = written if written.inline else self._call(self._runtime.stage_upload(written))
        update = ModelUpdate(
            job=task.job,
            job_uid=task.job_uid,
            round=task.round,
            edge=self.edge,
            base=task.model.digest if task.model is not None else None,
            weights=weights,
            num_samples=num_samples,
            metrics=metrics,
        )
        self._call(self._runtime.send(topics.MODEL_UPDATE, update, job=task.job, edge=self.edge))

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None:
        assert self._current is not None
        task = _task_of(self._current)
        assert task.model is not None and isinstance(task, EvaluateTask)
        evaluation = Evaluation(
            job=task.job, job_uid=task.job_uid, round=task.round, model=task.model.digest, metrics=metrics,
            num_samples=num_samples,
        )  # fmt: skip
        if task.names_edge:
            self._call(self._runtime.send(topics.EVALUATION, evaluation, job=task.job, edge=self.edge))
        else:
            self._call(self._runtime.send(topics.EVALUATION_0_1, evaluation, job=task.job))

    def _work(self, assignment: Assignment) -> Work:
        task = _task_of(assignment)
        kind: Literal["train", "evaluate", "initialise"] = "evaluate" if isinstance(task, EvaluateTask) else "train"
        if task.model is None:
            kind = "initialise"
        down = _open_weights(task.down, assignment.down_file) if isinstance(task, TrainTask) else None
        loaded = _open_weights(task.loaded, assignment.model_file)
        return Work(kind, task.job, task.round, loaded, task.parameters, down)

    def _describe(self, assignment: Assignment) -> None:
        self.job = assignment.task.job
        self.dataset = Path(assignment.dataset_file) if assignment.dataset_file else None
        self.dataset_samples = assignment.dataset_samples
        self.parameters = _task_of(assignment).parameters

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _open_weights(ref: WeightsRef | None, file: str | None) -> TensorFile | None:
    """Open weights. Raise FileNotFoundError where the node has dropped the file."""
    if ref is None:
        return None
    return TensorFile(Path(file or "")) if ref.inline is None else TensorFile(ref.inline, f"weights {ref.digest[:12]}")


def _task_of(assignment: Assignment) -> DatasetTask:
    """Return the task; an agent launches this program for training and evaluation only."""
    assert isinstance(assignment.task, DatasetTask)
    return assignment.task


async def serve(ready: Callable[[WorkerSession], None]) -> None:
    """Connect, hand assignments to the session, and stay until the script has ended."""
    async with Runtime(WorkerEnvironment.from_environment(), World()) as runtime:
        worker_session = WorkerSession(runtime, asyncio.get_running_loop())
        ready(worker_session)

        async def take(assignment: Assignment) -> None:
            worker_session.put(assignment)

        following = asyncio.create_task(runtime.assignments(take, DatasetTask))
        finished = asyncio.create_task(worker_session.finished.wait())
        await asyncio.wait((following, finished), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        await finished
        following.cancel()


def main() -> int:
    """Run the worker process, and return its exit code."""
    return run_with_host(serve)


if __name__ == "__main__":
    sys.exit(main())
