"""What an update leaves out: the tensors that its edge has not changed, where the aggregation can read that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from heliograph.bus.contract.payloads import Assignment, TrainTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import LEFT_OUT, TensorFile, buffers_of, dumps, header, write
from heliograph.session import Trained
from heliograph.workers.runtime import Runtime
from heliograph.workers.train import WorkerSession
from heliograph.workers.unchanged import without_unchanged, without_unknown_constants


def test_bits_decide() -> None:
    nan = np.array([np.nan, -np.inf, 0.0], np.float32)
    base = {"w": np.zeros((2, 2), np.float32), "mask": nan, "n": np.array(3), "b": np.ones(2, np.float32)}
    same = {name: array.copy() for name, array in base.items()}
    with TensorFile(dumps(base)) as file:
        assert without_unchanged(same, file) == {}
        changed = same | {"w": np.array([[0, 0], [0, -0.0]], np.float32), "n": np.array(4)}
        assert without_unchanged(changed, file).keys() == {"w", "n"}
        other = same | {"b": np.ones(2), "w": np.zeros(4, np.float32), "beside:w": np.zeros(2)}
        assert without_unchanged(other, file).keys() == {"b", "w", "beside:w"}  # the aggregation refuses two of them
        assert without_unknown_constants(same | {"constant:classes_": np.arange(2)}, file).keys() == same.keys()


def test_a_bf16_base_has_the_values_that_come_back_widened() -> None:
    bits = np.array([0x3F80, 0xFF80, 0x4000], "<u2")  # 1, -infinity, 2
    base = header({"w": ("BF16", (3,), 6)}) + bits.tobytes()
    with TensorFile(base) as file:
        assert without_unchanged({"w": np.array([1, -np.inf, 2], np.float32)}, file) == {}
        assert without_unchanged({"w": np.array([1, -np.inf, 3], np.float32)}, file).keys() == {"w"}


@pytest.mark.parametrize(("personal", "sent"), [(False, {"w"}), (True, {"w", "frozen"})])
async def test_a_worker_leaves_out_what_has_not_changed(personal: bool, sent: set[str], tmp_path: Path) -> None:
    """The base is the global model: an edge that trains a model of its own sends every tensor."""
    model = write({"w": np.zeros(2), "frozen": np.ones(3)}, tmp_path)
    own = WeightsRef(digest="f" * 64, size=model.size, inline=model.inline) if personal else None
    task = TrainTask(worker="job-w", job="job", job_uid="u", round=1, model=model, personal=own)
    updates: list[Any] = []

    async def send(topic: Any, update: Any, **params: str) -> None:
        updates.append(update)

    environment = SimpleNamespace(edge="edge-1", directory=tmp_path)
    runtime = cast(Runtime, SimpleNamespace(environment=environment, send=send))
    session = WorkerSession(runtime, asyncio.get_running_loop())
    session.put(Assignment(task=task, edge="edge-1"))

    def work() -> None:
        session.next_work()
        arrays = {"w": np.ones(2), "frozen": np.ones(3), "constant:classes_": np.arange(2)}
        session.send_update(Trained(arrays, 5, buffers={"frozen"}))

    await asyncio.get_running_loop().run_in_executor(None, work)
    with TensorFile(updates[0].weights.inline) as file:
        assert file.tensors.keys() == sent  # the base is of an earlier version and has no constants
        assert buffers_of(file.metadata) == {"frozen"}
        assert (LEFT_OUT.items() <= file.metadata.items()) == (sent == {"w"})
