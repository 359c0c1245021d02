"""The training worker, also the evaluation worker: run the user's script, with the event loop in a second thread.

The script keeps the main thread, so it may use signals, processes and frameworks as it does outside a worker.
"""

from __future__ import annotations

import asyncio
import dis
import os
import sys
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Literal

from heliograph import script_process, session
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment, DatasetTask, EvaluateTask, Evaluation, ModelUpdate, TrainTask
from heliograph.bus.contract.weights_file import ENCODING, LEFT_OUT, beside, origin, with_buffers, write
from heliograph.core.worker_directory import STAGED
from heliograph.local_terms.base import kind_of
from heliograph.session import Trained, Work
from heliograph.workers.edge_states import EdgeStates
from heliograph.workers.runtime import Runtime, log
from heliograph.workers.script import run_with_host
from heliograph.workers.script_end import ScriptEnd, end_of, places_of
from heliograph.workers.script_session import ScriptSession, open_weights, serve_session, task_of
from heliograph.workers.unchanged import without_unchanged, without_unknown_constants
from heliograph.workers.update_encoding import RESIDUAL, Encoder

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays
    from heliograph.workers.unchanged import Array


LEFT_AFTER = 2.0
"""Seconds after which a script that has left its loop, and has not failed since, asks to stop: an error in a round's
body leaves the loop too, and ends the script sooner."""
DELIVERED_WITHIN = 60.0
"""Seconds that a script's end waits for its last update to be on the node's disk."""


class WorkerSession(ScriptSession):
    """The script's side of a worker; see ``heliograph.session.Session``. Its calls block the script's thread."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(runtime, loop)
        self._current: Assignment | None = None
        self._done: tuple[str, int, str | None] | None = None
        self._leaving: _Leaving | None = None
        self._states = EdgeStates(runtime.environment.directory)
        self._residuals: dict[str, Array] = {}

    def begin(self) -> Assignment:
        session.current = self
        first = self.wait_for_first()
        script_process.describe(self, self._runtime.environment.directory)
        return first

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        self.close_loop(error)
        if (leaving := self._leaving) is not None:
            self._call(self._conclude_leaving(leaving, drop=leaving.is_body_of(error)))
        directory = self._runtime.environment.directory
        return end_of(error, session.reached, script_process.a_child_was_refused(directory))

    def next_work(self) -> Work | None:
        self.begin_looking()
        session.reached = "worked"
        while True:
            assignment = self.next_assignment()
            task = task_of(assignment)
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

    def send_update(self, trained: Trained) -> None:
        self._call(self._send(self._update(trained)))

    def leave(self, trained: Trained) -> None:
        if os.getpid() != self._process:
            return  # a forked child ends
        update = self._update(trained, stop=True)
        self._leaving = _Leaving(update, _places_from(sys._getframe(1)))
        self._call(self._leave_soon(self._leaving))

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None:
        assert self._current is not None
        task = task_of(self._current)
        assert task.model is not None and isinstance(task, EvaluateTask)
        evaluation = Evaluation(
            job=task.job, job_uid=task.job_uid, round=task.round, model=task.model.digest, metrics=metrics,
            num_samples=num_samples,
        )  # fmt: skip
        self._call(self._runtime.send(topics.EVALUATION, evaluation, job=task.job, edge=self.edge))

    def _update(self, trained: Trained, stop: bool = False) -> ModelUpdate:
        """Stage the weights and the edge's own state, and return the update that names them."""
        assert self._current is not None
        task = task_of(self._current)
        arrays, metadata, residuals = self._changed(trained, task)
        update_origin = origin(task.job_uid, task.round, self.edge) | metadata | with_buffers(trained.buffers)
        weights = write(arrays, self._runtime.environment.directory / STAGED, update_origin)
        self._states.stage(weights.digest, {**trained.state, **residuals})  # first, so that no counted update has none
        return ModelUpdate(
            job=task.job,
            job_uid=task.job_uid,
            round=task.round,
            edge=self.edge,
            base=task.model.digest if task.model is not None else None,
            weights=weights,
            num_samples=trained.num_samples,
            metrics=trained.metrics,
            encoding=metadata.get(ENCODING, "")[:1000],
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

    def _changed(self, trained: Trained, task: DatasetTask) -> tuple[Arrays, dict[str, str], Arrays]:
        """Return the tensors that travel, the metadata that says what they are, and what they leave behind."""
        assert self._current is not None
        arrays = trained.arrays
        try:
            loaded = open_weights(task.loaded, self._current.model_file)
        except FileNotFoundError:  # dropped meanwhile: a newer round's model is being fetched
            return arrays, {}, {}
        if loaded is None:
            return arrays, {}, {}
        with loaded:
            known = without_unknown_constants(arrays, loaded)
            # an edge with a personal model loads that, and its update's base is the global one
            if not isinstance(task, TrainTask) or task.loaded != task.model:
                return known, {}, {}
            changed = without_unchanged(known, loaded)
            metadata = LEFT_OUT if len(changed) < len(known) or trained.personal else {}
            if task.encoding is None:
                return changed, metadata, {}
            changed |= {name: known[name] for name in self._residuals if name in known}
            seed = f"{task.job_uid}/{task.round}/{self.edge}"
            sent, plan, left = Encoder(task.encoding, loaded, self._residuals, seed).encode(changed)
            metadata = LEFT_OUT if metadata and any(name not in changed for name in loaded.tensors) else {}
            return sent, metadata | plan, {beside(RESIDUAL, name): array for name, array in left.items()}

    def _left_behind(self, task: TrainTask) -> dict[str, Array]:
        """Return what earlier updates have left behind, by the names of tensors."""
        if task.encoding is None or task.encoding.top_k is None:
            return {}
        found = self._states.current(task.counted)
        if found is None:
            return {}
        with found as file:
            return kind_of(RESIDUAL, {name: array.copy() for name, array in file.arrays().items()})

    def _work(self, assignment: Assignment) -> Work:
        task = task_of(assignment)
        kind: Literal["train", "evaluate", "initialise"] = "evaluate" if isinstance(task, EvaluateTask) else "train"
        if task.model is None:
            kind = "initialise"
        loaded = open_weights(task.loaded, assignment.model_file)
        if not isinstance(task, TrainTask):
            return Work(kind, task.job, task.round, loaded, task.parameters)
        down = open_weights(task.down, assignment.down_file)
        state = self._states.current(task.counted) if task.local_term else None
        self._residuals = self._left_behind(task)
        return Work(kind, task.job, task.round, loaded, task.parameters, down, task.needs, task.local_term, state)


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


async def serve(ready: Callable[[WorkerSession], None]) -> None:
    """Serve the script until it has ended."""
    await serve_session(WorkerSession, ready)


def main() -> int:
    """Run the worker process, and return its exit code."""
    return run_with_host(serve)


if __name__ == "__main__":
    sys.exit(main())
