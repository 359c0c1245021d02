"""The process of a trial: the user's script serves a version of its model to nobody, answers one request, and ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from heliograph import session
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.payloads import Assignment, InferTask, ServingTask
from heliograph.bus.transport import Message
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.loop_thread import LoopThread
from heliograph.core.world import World
from heliograph.inference.serving import Serving
from heliograph.inference.serving_queue import NewModel, PendingRequest
from heliograph.workers.runtime import log
from heliograph.workers.script import run_script
from heliograph.workers.script_end import ScriptEnd, end_of
from heliograph.workers.trial import TRIAL_SECONDS, Trial, unpacked
from heliograph.workers.weights import read_version

REPLY = "trial"


class TrialHost:
    """The script's host in a trial: it hands over the version, one request, and the end."""

    def __init__(self, trial: Trial, loop: LoopThread) -> None:
        self._trial = trial
        self._task = task = _task_of(trial)
        spec = task.inference.model_copy(update={"rule": "never", "rule_parameters": {}})  # nothing is offloaded
        self.serving = Serving(task.job, spec, loop.loop, World(), self._keep, None, log)
        self.error: BaseException | None = None

    @property
    def code(self) -> Sequence[Path]:
        return self._trial.code

    def begin(self) -> Assignment:
        trial = self._trial
        arrays, classes = read_version(trial.weights, f"model {trial.digest[:12]}", self._task.served)
        self.serving.enqueue(NewModel(trial.digest, arrays, classes))
        if trial.body:
            tree = parse(trial.body, trial.topic)
            if isinstance(tree, dict):
                tree["deadline"] = TRIAL_SECONDS  # the request's own has passed
            self.serving.receive(Message(trial.topic, trial.body), tree, REPLY)
        self.serving.enqueue(None)
        session.inference["edge" if isinstance(self._task, InferTask) else "cloud"] = self.serving
        return trial.assignment

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        self.error = error
        return end_of(error)

    def failed(self, line: str, final: bool) -> None:
        """The objection tells it."""

    def finish(self) -> None:
        """Nothing has been sent."""

    def objection(self) -> str:
        """Return why the version must not answer; empty where it may."""
        if trouble := self.serving.health.trouble:
            return trouble
        if self.serving.model == self._trial.digest:
            return ""
        why = f": {type(self.error).__name__}: {self.error}"[:500] if self.error is not None else ""
        return f"the script, run a second time for the trial, ended before it served{why}"

    async def _keep(self, answers: list[tuple[PendingRequest, bytes]]) -> None:
        """Send nothing: nobody has asked."""


def tried(trial: Trial) -> str:
    """Run the script of a trial. Return why the version must not answer; empty where it may."""
    _task_of(trial)
    loop = LoopThread("trial")
    try:
        host = TrialHost(trial, loop)
        run_script(host)
        return host.objection()
    finally:
        loop.close()


def _task_of(trial: Trial) -> ServingTask:
    task = trial.assignment.task
    if not isinstance(task, ServingTask):
        raise Refused("invalid", field="trial", expected="a task that serves a model", got=task.role)
    return task


def main() -> int:
    """Read the trial from the file descriptor that the argument names, and write the objection there."""
    os.nice(10)  # the server goes first
    worker = os.getpid()
    with os.fdopen(int(sys.argv[1]), "r+b") as file:
        try:
            trial = unpacked(file.read())
            file.seek(0)
            file.truncate()
            why = tried(trial)
        except HeliographError as error:
            why = str(error)
        if os.getpid() == worker:  # no child that the script has forked
            file.write(why.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
