"""The training worker, also the evaluation worker: run the user's script, with the event loop in a second thread.

The script keeps the main thread, so it may use signals, processes and frameworks as it does outside a worker.
"""

from __future__ import annotations

import asyncio
import dis
import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from heliograph import script_process, session
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment, DatasetTask, EvaluateTask, Evaluation, ModelUpdate, TrainTask
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.bus.contract.weights_file import LEFT_OUT, TensorFile, origin, write
from heliograph.core.child_process import give_up_permit
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.session import Work
from heliograph.workers.runtime import Runtime, WorkerEnvironment, log
from heliograph.workers.script import run_with_host
from heliograph.workers.script_end import ScriptEnd, end_of, places_of
from heliograph.workers.unchanged import without_unchanged, without_unknown_constants

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


T = TypeVar("T")
LEFT_AFTER = 2.0
"""Seconds after which a script that has left its loop, and has not failed since, asks to stop: an error in a round's
body leaves the loop too, and ends the script sooner."""
DELIVERED_WITHIN = 60.0
"""Seconds that a script's end waits for its last update to be on the node's disk."""
UNSUBSCRIBED_WITHIN = 2.0
"""Seconds that a worker's end waits for the node's broker to end the subscription to assignments."""


class WorkerSession:
    """The script's side of a worker; see ``heliograph.session.Session``. Its calls block the script's thread."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        self._runtime = runtime
        self._loop = loop
        self._process = os.getpid()
        self._assigned: queue.SimpleQueue[Assignment] = queue.SimpleQueue()
        self._current: Assignment | None = None
        self._done: tuple[str, int, str | None] | None = None
        self._first: Assignment | None = None
        self._rounds: weakref.ref[Iterator[Any]] | None = None
        self._leaving: _Leaving | None = None
        self._looping: threading.Thread | None = None
        self.finished = asyncio.Event()
        self.job_has_ended = False
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
        self.job_has_ended = assignment.ended
        self._assigned.put(assignment)

    def begin(self) -> Assignment:
        session.current = self
        first = self.wait_for_first()
        script_process.describe(self, self._runtime.environment.directory)
        return first

    def failed(self, line: str, final: bool) -> None:
        self._call(self._runtime.report_state("failed", detail=line, final=final))

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        if self._looping is not None and self._looping is not threading.current_thread():
            self._looping.join()  # as Python does at its end: the script trains in a thread
        is_end = error is None or (isinstance(error, SystemExit) and not error.code)
        if is_end and self._rounds is not None and (rounds := self._rounds()) is not None:
            rounds.close()  # type: ignore[attr-defined]  # a loop whose iterator has a name is still open
        if (leaving := self._leaving) is not None:
            self._call(self._conclude_leaving(leaving, drop=leaving.is_body_of(error)))
        directory = self._runtime.environment.directory
        return end_of(error, session.reached, script_process.a_child_was_refused(directory))

    def finish(self) -> None:
        """Let the bus's thread deliver the last events and end; called when the script has ended."""
        self._loop.call_soon_threadsafe(self.finished.set)

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        self._require_main_process()
        if self._rounds is not None:
            raise Refused("second-loop", field="rounds", expected="one loop over rounds() in a script",
                          got="a second one: a job trains one model in one loop",
                          hint="Train the other model in a job of its own, or before the loop without rounds().",
                          )  # fmt: skip
        self._rounds = weakref.ref(rounds)

    def wait_for_first(self) -> Assignment:
        """Wait for the first assignment: it names script and data set."""
        self._first = self._assigned.get()
        self._describe(self._first)
        return self._first

    def next_work(self) -> Work | None:
        self._require_main_process()
        give_up_permit()  # the script has loaded
        session.reached = "worked"
        self._looping = threading.current_thread()
        while True:
            assignment, self._first = self._first or self._assigned.get(), None
            while not self._assigned.empty():  # an earlier one is superseded
                assignment = self._assigned.get()
            self._describe(assignment)
            task = _task_of(assignment)
            if assignment.ended:
                self._call(self._runtime.report_state("left"))
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
        self._call(self._send(self._update(arrays, num_samples, metrics)))

    def leave(self, arrays: Arrays, num_samples: int, metrics: dict[str, float]) -> None:
        if os.getpid() != self._process:
            return  # a forked child ends
        update = self._update(arrays, num_samples, metrics, stop=True)
        self._leaving = _Leaving(update, _places_from(sys._getframe(1)))
        self._call(self._leave_soon(self._leaving))

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

    def _require_main_process(self) -> None:
        """Raise Refused in a process that the script has forked: the bus's thread is not there."""
        if os.getpid() != self._process:
            raise script_process.refusal(self._runtime.environment.directory)

    def _update(self, arrays: Arrays, num_samples: int, metrics: dict[str, float], stop: bool = False) -> ModelUpdate:
        """Stage the weights, and return the update that names them."""
        assert self._current is not None
        task = _task_of(self._current)
        arrays, metadata = self._changed(arrays, task)
        update_origin = origin(task.job_uid, task.round, self.edge) | metadata
        return ModelUpdate(
            job=task.job,
            job_uid=task.job_uid,
            round=task.round,
            edge=self.edge,
            base=task.model.digest if task.model is not None else None,
            weights=write(arrays, self._runtime.environment.directory / "staged", update_origin),
            num_samples=num_samples,
            metrics=metrics,
            stop=stop,
        )

    async def _send(self, update: ModelUpdate) -> None:
        if not update.weights.inline:
            update = update.model_copy(update={"weights": await self._runtime.stage_upload(update.weights)})
        await self._runtime.send(topics.MODEL_UPDATE, update, job=update.job, edge=self.edge)

    async def _leave_soon(self, leaving: _Leaving) -> None:
        async def wait() -> None:
            await self._runtime.world.sleep(LEFT_AFTER)
            await self._leave(leaving)

        leaving.waiting = asyncio.create_task(wait())

    async def _leave(self, leaving: _Leaving) -> None:
        """Send the request to stop, once."""
        if leaving.sending is None:
            leaving.sending = asyncio.create_task(self._send(leaving.update))
            await leaving.sending
            await self._runtime.report_state("left", round=leaving.update.round)
        else:
            await leaving.sending

    async def _conclude_leaving(self, leaving: _Leaving, drop: bool) -> None:
        if drop and leaving.waiting is not None:
            leaving.waiting.cancel()
            return
        await self._leave(leaving)
        await self._runtime.flush(DELIVERED_WITHIN)

    def _changed(self, arrays: Arrays, task: DatasetTask) -> tuple[Arrays, dict[str, str]]:
        """Return the arrays that travel, and the metadata that says whether unchanged ones do not."""
        assert self._current is not None
        try:
            loaded = _open_weights(task.loaded, self._current.model_file)
        except FileNotFoundError:  # dropped meanwhile: a newer round's model is being fetched
            return arrays, {}
        if loaded is None:
            return arrays, {}
        with loaded:
            known = without_unknown_constants(arrays, loaded)
            # an edge with a personal model loads that, and its update's base is the global one
            if not isinstance(task, TrainTask) or not task.unchanged_left_out or task.loaded != task.model:
                return known, {}
            changed = without_unchanged(known, loaded)
        return changed, LEFT_OUT if len(changed) < len(known) else {}

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


class _Leaving:
    """A loop that the script has left before the job's end.

    Args:
        places: the functions that ran when the loop's iterator was dropped, innermost first, each with its instruction.
    """

    def __init__(self, update: ModelUpdate, places: Sequence[tuple[CodeType, int]]) -> None:
        self.update = update
        self.waiting: asyncio.Task[None] | None = None
        self.sending: asyncio.Task[None] | None = None
        self._places = places

    def is_body_of(self, error: BaseException | None) -> bool:
        """Return whether the error that ended the script was raised in the body, and so left the loop.

        Python drops a loop's iterator also where an error leaves the loop. In the innermost function that both have in
        common it was then dropped at the very instruction that the error passed, or where the error was raised again
        (after ``except``, ``finally`` or ``with``); after a ``break`` the function went on before it met the error.
        """
        if self.sending is not None or error is None or (isinstance(error, SystemExit) and not error.code):
            return False
        raised = places_of(error.__traceback__)
        common = next(((code, at) for code, at in self._places if code in raised), None)
        if common is None:
            return False
        code, at = common
        return raised[code] == at or dis.opname[code.co_code[at]] in ("RERAISE", "RAISE_VARARGS")


def _places_from(frame: FrameType | None) -> list[tuple[CodeType, int]]:
    found: list[tuple[CodeType, int]] = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return found


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
        if worker_session.job_has_ended:  # it is unsubscribing: cut off, the client library would print a traceback
            await asyncio.wait((following,), timeout=UNSUBSCRIBED_WITHIN)
        following.cancel()


def main() -> int:
    """Run the worker process, and return its exit code."""
    return run_with_host(serve)


if __name__ == "__main__":
    sys.exit(main())
