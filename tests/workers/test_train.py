"""The training worker and its assignments."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from heliograph.bus.contract.payloads import Assignment, TrainTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import dumps
from heliograph.workers.runtime import Runtime
from heliograph.workers.train import WorkerSession
from tests.patience import HANGS


def _assignment(round: int, file: Path) -> Assignment:
    model = WeightsRef(digest=hashlib.sha256(str(round).encode()).hexdigest(), size=10**6, bucket="models")
    task = TrainTask(worker="job-w", job="job", job_uid="u", round=round, model=model)
    return Assignment(task=task, edge="edge-1", model_file=str(file))


async def test_a_model_that_was_dropped_before_it_was_opened_costs_no_restart(tmp_path: Path) -> None:
    reported: asyncio.Queue[str] = asyncio.Queue()

    async def report_state(state: str) -> None:
        reported.put_nowait(state)

    environment = SimpleNamespace(edge="edge-1", directory=Path("unused"))
    runtime = cast(Runtime, SimpleNamespace(environment=environment, report_state=report_state))
    session = WorkerSession(runtime, asyncio.get_running_loop())
    session.put(_assignment(1, tmp_path / "dropped"))  # the model was deleted while this worker was busy
    waiting: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(None, session.next_work)
    async with asyncio.timeout(HANGS):
        assert await reported.get() == "hello"
        present = tmp_path / "present"
        present.write_bytes(dumps({"w": np.ones(3, np.float32)}))
        session.put(_assignment(2, present))
        work = await waiting
    assert reported.empty()
    assert work.round == 2
    with work.weights as file:
        np.testing.assert_array_equal(file.numpy("w"), np.ones(3, np.float32))
