"""What the sessions of all workers that run a training script share: assignments, the script's begin and its end."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from heliograph import script_process
from heliograph.bus.contract.payloads import Assignment, DatasetTask
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.child_process import give_up_permit
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.workers.runtime import Runtime, WorkerEnvironment

T = TypeVar("T")
S = TypeVar("S", bound="ScriptSession")
UNSUBSCRIBED_WITHIN = 2.0
"""Seconds that a worker's end waits for the node's broker to end the subscription to assignments."""


class ScriptSession:
    """The script's side of a worker. Its calls block the script's thread; ``put`` is called in the event loop's."""

    task_kind: type[DatasetTask] = DatasetTask

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        self._runtime = runtime
        self._loop = loop
        self._process = os.getpid()
        self._assigned: queue.SimpleQueue[Assignment] = queue.SimpleQueue()
        self._first: Assignment | None = None
        self._rounds: weakref.ref[Iterator[Any]] | None = None
        self._looping: threading.Thread | None = None
        self.finished = asyncio.Event()
        self.job_has_ended = False
        self.edge = runtime.environment.edge
        self.job = ""
        self.dataset: Path | None = None
        self.dataset_samples = 0
        self.further_datasets: Mapping[str, Path] = {}
        self.parameters: dict[str, Scalar] = {}

    @property
    def code(self) -> Sequence[Path]:
        return self._runtime.environment.code

    def put(self, assignment: Assignment) -> None:
        """Hand over a new assignment; called in the event loop's thread."""
        self.job_has_ended = assignment.ended
        self._assigned.put(assignment)

    def failed(self, line: str, final: bool) -> None:
        self._call(self._runtime.report_state("failed", detail=line, final=final))

    def finish(self) -> None:
        """Let the bus's thread deliver the last events and end; called when the script has ended."""
        self._loop.call_soon_threadsafe(self.finished.set)

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        self.require_main_process()
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

    def require_main_process(self) -> None:
        """Raise Refused in a process that the script has forked: the bus's thread is not there."""
        if os.getpid() != self._process:
            raise script_process.refusal(self._runtime.environment.directory)

    def begin_looking(self) -> None:
        """Take note that the script asks for work; called in its thread."""
        self.require_main_process()
        give_up_permit()  # the script has loaded
        self._looping = threading.current_thread()

    def next_assignment(self) -> Assignment:
        """Wait for the newest assignment; earlier ones are superseded."""
        assignment, self._first = self._first or self._assigned.get(), None
        while not self._assigned.empty():
            assignment = self._assigned.get()
        self._describe(assignment)
        return assignment

    def close_loop(self, error: BaseException | None) -> None:
        """Wait for a thread in which the script loops, as Python does at its end, and close the loop's iterator."""
        if self._looping is not None and self._looping is not threading.current_thread():
            self._looping.join()
        is_end = error is None or (isinstance(error, SystemExit) and not error.code)
        if is_end and self._rounds is not None and (rounds := self._rounds()) is not None:
            rounds.close()  # type: ignore[attr-defined]  # a loop whose iterator has a name is still open

    def _describe(self, assignment: Assignment) -> None:
        self.job = assignment.task.job
        self.dataset = Path(assignment.dataset_file) if assignment.dataset_file else None
        self.dataset_samples = assignment.dataset_samples
        self.further_datasets = {purpose: Path(file) for purpose, file in assignment.dataset_files.items()}
        self.parameters = task_of(assignment).parameters

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def task_of(assignment: Assignment) -> DatasetTask:
    """Return the task; an agent launches these programs for tasks with a data set only."""
    assert isinstance(assignment.task, DatasetTask)
    return assignment.task


def open_weights(ref: WeightsRef | None, file: str | None) -> TensorFile | None:
    """Open weights. Raise FileNotFoundError where the node has dropped the file."""
    if ref is None:
        return None
    return TensorFile(Path(file or "")) if ref.inline is None else TensorFile(ref.inline, f"weights {ref.digest[:12]}")


async def serve_session(make: Callable[[Runtime, asyncio.AbstractEventLoop], S], ready: Callable[[S], None]) -> None:
    """Connect, hand assignments to the session, and stay until the script has ended."""
    async with Runtime(WorkerEnvironment.from_environment(), World()) as runtime:
        session = make(runtime, asyncio.get_running_loop())
        ready(session)

        async def take(assignment: Assignment) -> None:
            session.put(assignment)

        following = asyncio.create_task(runtime.assignments(take, session.task_kind))
        finished = asyncio.create_task(session.finished.wait())
        await asyncio.wait((following, finished), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        await finished
        if session.job_has_ended:  # it is unsubscribing: cut off, the client library would print a traceback
            await asyncio.wait((following,), timeout=UNSUBSCRIBED_WITHIN)
        following.cancel()
