"""The pair worker: which assignments are work, and what it sends."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import pytest_asyncio

from heliograph.bus.contract.payloads import Assignment, PairResult, PairTask
from heliograph.bus.contract.resources import PairFigures, SelectionFigures, WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.workers.pair import PairWorkerSession
from heliograph.workers.runtime import Runtime

pytestmark = pytest.mark.asyncio


def _ref(value: float) -> WeightsRef:
    content = dumps({"w": np.full(2, value, np.float32)})
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), inline=content)


def _assignment(files: dict[str, str] | None = None, **changes: Any) -> Assignment:
    fields: dict[str, Any] = {"worker": "j-pair", "job": "j", "job_uid": "u", "round": 1, "dataset": "mine",
                              "further_datasets": {"public": "p"}, "classes": ["a", "b"]}  # fmt: skip
    return Assignment(task=PairTask(**{**fields, **changes}), edge="edge-1", dataset_file="mine.npz",
                      dataset_files={"public": "p.npz"}, files=files or {})  # fmt: skip


class _Worker:
    """A session whose runtime keeps what it is given to send."""

    def __init__(self, directory: Path) -> None:
        self.sent: list[PairResult] = []
        self.reported: list[str] = []

        async def send(topic: Any, payload: Any, **params: str) -> None:
            assert params == {"job": "j", "edge": "edge-1"}
            self.sent.append(payload)

        async def stage_upload(ref: WeightsRef) -> WeightsRef:
            return ref

        async def report_state(state: str) -> None:
            self.reported.append(state)

        environment = SimpleNamespace(edge="edge-1", directory=directory)
        runtime = SimpleNamespace(environment=environment, send=send, stage_upload=stage_upload,
                                  report_state=report_state)  # fmt: skip
        self.session = PairWorkerSession(cast(Runtime, runtime), asyncio.get_running_loop())

    async def next(self, *assignments: Assignment) -> Any:
        for each in assignments:
            self.session.put(each)
        return await asyncio.to_thread(self.session.next_step)


@pytest_asyncio.fixture
async def worker(tmp_path: Path) -> _Worker:
    return _Worker(tmp_path)


async def test_each_turn_is_work_once_with_its_files(worker: _Worker) -> None:
    work = await worker.next(_assignment())
    assert (work.step, work.selection, work.cloud, work.classes) == ("selecting", None, None, ["a", "b"])
    assert worker.session.further_datasets == {"public": Path("p.npz")}
    work = await worker.next(
        _assignment(), _assignment(round=3, step="training-edge", selection=_ref(1), cloud=_ref(2), model=_ref(3))
    )
    assert work.step == "training-edge" and work.plan.edge.objective == "recall", "the plan of a task without one"
    found = [float(each.numpy("w")[0]) for each in (work.selection, work.cloud, work.weights)]
    assert found == [1, 2, 3]
    assert await worker.next(_assignment().model_copy(update={"ended": True})) is None


async def test_a_file_that_is_gone_is_asked_for_again(worker: _Worker, tmp_path: Path) -> None:
    outside = WeightsRef(digest="0" * 64, size=9, bucket="models")
    gone = _assignment({"0" * 64: str(tmp_path / "gone")}, step="training-cloud", selection=outside)
    work = await worker.next(gone, _assignment(round=2, step="training-cloud", selection=_ref(1)))
    assert work.round == 2
    waiting = asyncio.create_task(worker.next(gone.model_copy(update={"number": 2})))
    while not worker.reported:
        await asyncio.sleep(0)
    assert worker.reported == ["hello"]
    worker.session.put(_assignment(round=4))
    assert (await waiting).round == 4


async def test_results_name_their_turn_and_a_model_has_its_classes(worker: _Worker) -> None:
    await worker.next(_assignment(round=5))
    send = worker.session
    await asyncio.to_thread(send.send_selection, {"indices": np.arange(3)}, SelectionFigures(selected=3), ["a", "b"])
    await worker.next(_assignment(round=6, step="training-cloud", selection=_ref(1)))
    await asyncio.to_thread(send.send_model, {"w": np.ones(2, np.float32)}, ["a", "b"], 7, {"loss": 0.5}, 1.5)
    await worker.next(_assignment(round=7, step="measuring", cloud=_ref(1), edge=_ref(2)))
    await asyncio.to_thread(send.send_figures, PairFigures(measured_on=4))
    chosen, model, measured = worker.sent
    assert [(each.round, each.step) for each in worker.sent] == [
        (5, "selecting"), (6, "training-cloud"), (7, "measuring"),
    ]  # fmt: skip
    assert chosen.selected is not None and chosen.selected.selected == 3 and chosen.weights is not None
    assert (model.num_samples, model.metrics, model.classes) == (7, {"loss": 0.5}, ["a", "b"])
    assert measured.figures is not None and measured.weights is None
    assert model.weights is not None and model.weights.inline is not None
    with TensorFile(model.weights.inline, "model") as file:
        assert file.metadata["step"] == "training-cloud" and "a" in file.metadata["classes"]


async def test_a_script_has_one_loop(worker: _Worker) -> None:
    loop = iter(())
    worker.session.begin_rounds(cast(Any, (each for each in loop)))
    with pytest.raises(Refused, match="one loop"):
        worker.session.begin_rounds(cast(Any, (each for each in loop)))
