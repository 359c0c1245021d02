"""A user's script in a worker without a broker: the runtime is played, the session and what runs the script are not."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heliograph import session
from heliograph.bus.contract import weights_file
from heliograph.bus.contract.payloads import Assignment, EvaluateTask, Evaluation, ModelUpdate, ScriptSpec, TrainTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.workers.runtime import Runtime
from heliograph.workers.script import run_script
from heliograph.workers.train import WorkerSession

EDGE = "edge-3"


@dataclass
class Ran:
    """A run of a script.

    Attributes:
        states: what the worker reported to its agent: state, detail, whether it is final, and the round.
    """

    code: int = -1
    updates: list[ModelUpdate] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    states: list[tuple[str, str, bool, int | None]] = field(default_factory=list)

    @property
    def rounds(self) -> list[tuple[int, bool]]:
        """Return the round of each update, and whether it asks to stop."""
        return [(update.round, update.stop) for update in self.updates]

    @property
    def failure(self) -> str:
        """Return what the worker reported as its failure; empty if nothing."""
        return next((detail for state, detail, _, _ in self.states if state == "failed"), "")


class Job:
    """A job of one edge: each update becomes the next global model, until ``rounds`` have been trained.

    Args:
        evaluates: whether the worker evaluates each model instead of training it.
    """

    def __init__(self, directory: Path, rounds: int = 3, samples: int = 4, evaluates: bool = False) -> None:
        self.ran = Ran()
        self._rounds = rounds
        self._samples = samples
        self._evaluates = evaluates
        self._round = 0
        self._model: WeightsRef | None = None
        self._environment = SimpleNamespace(edge=EDGE, directory=directory, code=(Path("/"),))
        self._script = ScriptSpec(boot_file="")

    def run(self, script: Path, arguments: Sequence[str] = ()) -> Ran:
        """Run the script to its end."""
        self._script = ScriptSpec(boot_file=str(script), arguments=list(arguments))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        played = SimpleNamespace(
            environment=self._environment, world=World(), send=self._send, report_state=self._report,
            flush=self._flush, stage_upload=None,
        )  # fmt: skip
        self._session = WorkerSession(cast(Runtime, played), loop)
        self._assign()
        with _own_interpreter():
            try:
                self.ran.code = run_script(self._session)
            finally:
                asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result()
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.close()
        return self.ran

    def _assign(self, ended: bool = False) -> None:
        about: dict[str, Any] = {"worker": "w", "job": "job", "job_uid": "u", "round": self._round,
                                 "model": self._model, "script": self._script}  # fmt: skip
        task = EvaluateTask(**about) if self._evaluates and self._round else TrainTask(**about)
        self._session.put(Assignment(task=task, edge=EDGE, dataset_samples=self._samples, ended=ended))

    async def _send(self, topic: object, payload: ModelUpdate | Evaluation, **params: str) -> None:
        if isinstance(payload, ModelUpdate):
            self.ran.updates.append(payload)
            self._model = _completed(payload.weights, self._model)
        else:
            self.ran.evaluations.append(payload)
        stops = isinstance(payload, ModelUpdate) and payload.stop
        if stops:
            (self._environment.directory / "stopped").touch()
        elif self._round < self._rounds:
            self._round += 1
            self._assign()
        else:
            self._assign(ended=True)

    async def _report(self, state: str, detail: str = "", final: bool = False, round: int | None = None) -> None:
        self.ran.states.append((state, detail, final, round))

    async def _flush(self, seconds: float) -> None:
        return None


def _completed(update: WeightsRef, base: WeightsRef | None) -> WeightsRef:
    """Return an update as a model: with the base's tensors that it leaves out, since they have not changed."""
    if base is None:
        return update
    with weights_file.TensorFile(base.inline or b"") as before, weights_file.TensorFile(update.inline or b"") as after:
        arrays = {name: file.numpy(name) for file in (before, after) for name in file.tensors}
        content = weights_file.dumps(arrays)
    return WeightsRef(digest=sha256(content).hexdigest(), size=len(content), inline=content)


async def _end_tasks() -> None:
    await cancel_and_wait(*(asyncio.all_tasks() - {asyncio.current_task()}))


@contextlib.contextmanager
def _own_interpreter() -> Iterator[None]:
    """Restore what a script changes in this process: modules, path, arguments, session."""
    modules = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("path", "path_hooks", "argv"):
            patch.setattr(sys, name, list(getattr(sys, name)))
        patch.setattr(session, "current", None)
        patch.setattr(session, "reached", "nothing")
        yield
    for name in set(sys.modules) - modules:
        if "/project/" in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
