"""A job that says "Succeeded" has learned; whatever it says, its last global model is there. The test plays the edges,
and what their scripts do: see the scripts of the same names in tests/data/field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.payloads import DatasetTask, WorkerReport
from heliograph.bus.contract.weights_file import TensorFile, write
from tests.coordinator.conftest import BASE, EDGES
from tests.coordinator.conftest import cloud as cloud  # a fixture

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRAINED = {"w": np.full((2, 3), 7, np.float32), "b": np.ones(3, np.float32)}
BAD = {**TRAINED, "b": np.array([1, np.nan, 1], np.float32)}
FINAL = {"state": "failed", "final": True}


def _condition(status: dict[str, Any], type: str) -> tuple[str, str, str]:
    found = next(each for each in status["conditions"] if each["type"] == type)
    return found["status"], found["reason"], found.get("message", "")


def _worker(document: dict[str, Any], role: str = "train", **state: Any) -> WorkerReport:
    name, uid = document["metadata"]["name"], document["metadata"]["uid"]
    return WorkerReport(worker=f"{name}-{role}", role=role, job=name, job_uid=uid, round=0, **state)


async def _downloaded(cloud: Any, job: str, directory: Path) -> dict[str, Any]:
    with TensorFile(await cloud.client.download(f"model-{job}", directory / "model.safetensors")) as file:
        return {name: file.numpy(name).copy() for name in file.tensors}


async def _answer(cloud: Any, job: str, round: int, **arrays: Any) -> dict[str, DatasetTask]:
    """Answer a round's tasks on edges 1 and 2, in this order."""
    tasks = {}
    for number, weights in enumerate(arrays.values(), 1):
        edge = cloud.edges[f"edge-{number}"]
        task = tasks[edge.name] = await edge.task(job, round)
        await edge.send(edge.update(task, weights))
    return tasks


async def test_a_script_leaves_its_loop_early(cloud: Any) -> None:
    await cloud.job("early", rounds=30)
    one, two = cloud.edges["edge-1"], cloud.edges["edge-2"]
    first, second = await one.task("early", 1), await two.task("early", 1)
    await one.send(one.update(first, TRAINED, stop=True))
    await two.send(two.update(second, TRAINED))
    second = await two.task("early", 2)  # edge-1 is not waited for, though it is connected
    assert (await cloud.client.jobs.get("early"))["status"]["left"] == ["edge-1"]
    await two.send(two.update(second, TRAINED, stop=True))
    status = await cloud.ended("early")
    assert (status["phase"], [each["counted"] for each in status["rounds"]]) == ("Succeeded", [2, 1])
    assert _condition(status, "Complete") == ("True", "EarlyStopped", "2 of 30 rounds; edge-1, edge-2 asked to stop")


async def test_a_script_that_diverges_in_its_last_round_has_not_succeeded(cloud: Any, tmp_path: Path) -> None:
    await cloud.job("diverge", rounds=2)
    await _answer(cloud, "diverge", 1, one=TRAINED, two=TRAINED)
    await _answer(cloud, "diverge", 2, one=BAD, two=BAD)
    status = await cloud.ended("diverge")
    assert (status["phase"], _condition(status, "Complete")[1]) == ("Failed", "NoValidUpdate")
    assert "round 2, the last one, closed without a valid update" in _condition(status, "Complete")[2]
    model = await cloud.client.models.get("model-diverge")
    assert (model["status"]["versions"], [each["round"] for each in model["status"]["unfinished"]]) == ([], [1])
    np.testing.assert_array_equal((await _downloaded(cloud, "diverge", tmp_path))["w"], TRAINED["w"])


async def test_a_script_that_fails_on_one_edge_is_named_in_the_closing_line(cloud: Any) -> None:
    await cloud.job("half", rounds=1)
    await _answer(cloud, "half", 1, one=TRAINED, two=BAD)
    status = await cloud.ended("half")
    assert status["uncounted"] == ["edge-2"]
    assert "1 rounds; never counted: edge-2 (refused: " in _condition(status, "Complete")[2]


async def test_a_script_that_rebinds_its_model_trains_nothing(cloud: Any) -> None:
    await cloud.job("rebind", rounds=1)
    await _answer(cloud, "rebind", 1, one=BASE, two=TRAINED)
    status = await cloud.ended("rebind")
    assert _condition(status, "UpdatesChange")[:2] == ("False", "Unchanged")
    assert "1 of 2 updates equal the model that they began from (edge-1)" in (
        _condition(status, "UpdatesChange")[2]
    )


async def test_a_deadline_that_is_shorter_than_a_round_is_said(cloud: Any) -> None:
    await cloud.job("hasty", rounds=2, roundDeadlineSeconds=0.3)
    one, two = cloud.edges["edge-1"], cloud.edges["edge-2"]
    late = await two.task("hasty", 1)
    await one.send(one.update(await one.task("hasty", 1), TRAINED))
    again = await one.task("hasty", 2)  # the round was closed without edge-2, at its deadline
    await two.send(two.update(late, TRAINED))
    await one.send(one.update(again, TRAINED))
    status = await cloud.ended("hasty")
    assert _condition(status, "InTime")[:2] == ("False", "Late")
    assert "1 of 2 updates came late" in _condition(status, "InTime")[2]
    assert "raise roundDeadlineSeconds, now 0.3" in _condition(status, "InTime")[2]
    assert status["late"][0]["secondsLate"] >= 0


async def test_a_job_that_is_stopped_keeps_its_model(cloud: Any, tmp_path: Path) -> None:
    await cloud.job("ctrl-c", rounds=9)
    await _answer(cloud, "ctrl-c", 1, one=TRAINED, two=TRAINED)
    await cloud.edges["edge-1"].task("ctrl-c", 2)
    await cloud.client.jobs.stop("ctrl-c")
    status = await cloud.ended("ctrl-c")
    assert _condition(status, "Complete")[2] == "stopped on request; the model of round 1 is kept"
    np.testing.assert_array_equal((await _downloaded(cloud, "ctrl-c", tmp_path))["b"], TRAINED["b"])


async def test_a_missing_evaluate_is_said_after_the_first_round(cloud: Any, tmp_path: Path) -> None:
    job = await cloud.job("slownoeval", rounds=40, evaluationWorker={"nodeName": "edge-3", "dataset": {"name": "data"}})
    await _answer(cloud, "slownoeval", 1, one=TRAINED, two=TRAINED)
    await cloud.edges["edge-3"].task("slownoeval", 1)
    why = "no-evaluate: field evaluate: expected a function that measures the model"
    await cloud.reported("edge-3", workers=[_worker(job, "evaluate", **FINAL, detail=why)])
    status = await cloud.ended("slownoeval")
    assert _condition(status, "Complete") == (
        "False", "EvaluationFailed", f"edge-3: {why}; the model of round 1 is kept",
    )  # fmt: skip
    await cloud.reported("edge-3")
    np.testing.assert_array_equal((await _downloaded(cloud, "slownoeval", tmp_path))["b"], TRAINED["b"])


async def test_a_script_that_is_broken_everywhere_ends_the_job_at_once(cloud: Any) -> None:
    await cloud.client.models.create({"kind": "Model", "metadata": {"name": "fresh"}})
    job = await cloud.job("typo", EDGES, aggregationWorker={"model": {"name": "fresh"}})
    broken = {**FINAL, "detail": "exit code 1: ValueError: a typo"}
    await cloud.edges["edge-1"].task("typo", 0)  # the initial weights are asked of one edge
    await cloud.reported("edge-1", workers=[_worker(job, **broken)])
    for name in ("edge-2", "edge-3"):  # and then of all others at once
        await cloud.edges[name].task("typo", 0)
    for name in ("edge-2", "edge-3"):
        await cloud.reported(name, workers=[_worker(job, **broken)])
    status = await cloud.ended("typo")
    assert _condition(status, "Complete") == (
        "False", "WorkersFailed", f"the worker fails on every edge; edge-1: {broken['detail']}",
    )  # fmt: skip
    for name in EDGES:
        await cloud.reported(name)


async def test_a_script_that_lies_on_no_edge_fails_the_job_at_its_deadline(cloud: Any) -> None:
    await cloud.client.models.create({"kind": "Model", "metadata": {"name": "new"}})
    spec = {"aggregationWorker": {"model": {"name": "new"}}, "roundDeadlineSeconds": 1.0}
    job = await cloud.job("nowhere", **spec)
    waits = _worker(job, state="waiting", detail="script train.py is not on this node")
    await cloud.edges["edge-1"].task("nowhere", 0)
    for name in EDGES[:2]:
        await cloud.reported(name, workers=[waits])
    status = await cloud.ended("nowhere")
    assert _condition(status, "WorkersHealthy")[:2] == ("False", "WorkerWaits")
    assert _condition(status, "Complete")[:2] == ("False", "WorkersWait")
    assert "edge-2: script train.py is not on this node" in _condition(status, "Complete")[2]
    for name in EDGES[:2]:
        await cloud.reported(name)


async def test_a_script_that_one_edge_lacks_is_trained_on_the_others(cloud: Any) -> None:
    await cloud.client.models.create({"kind": "Model", "metadata": {"name": "partly"}})
    job = await cloud.job("partly", rounds=1, aggregationWorker={"model": {"name": "partly"}})
    two = cloud.edges["edge-2"]
    await cloud.edges["edge-1"].task("partly", 0)
    waits = _worker(job, state="waiting", detail="script train.py is not on this node")
    await cloud.reported("edge-1", workers=[waits])
    first = await two.task("partly", 0)
    weights = write(BASE, Path("/nonexistent"))  # what a script's model has before its first round
    await two.send(two.update(first.model_copy(update={"model": weights}), BASE, base=None))
    await two.send(two.update(await two.task("partly", 1), TRAINED))
    status = await cloud.ended("partly")
    assert (status["phase"], status["uncounted"]) == ("Succeeded", ["edge-1"])
    await cloud.reported("edge-1")
