"""One edge that lies over its own login: about its samples, its update, its metrics, the job's evaluation, and about
what the cluster's workers offer. The job's result and every other edge's share of it stay right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import EvaluateTask, Evaluation, Offer
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.errors import HeliographError
from tests.coordinator.conftest import BASE, EDGES, SAMPLES
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

HONEST = EDGES[:2]
LIAR = EDGES[2]


def _moved(by: float) -> dict[str, Any]:
    return {name: array + np.float32(by) for name, array in BASE.items()}


async def _model(cloud: Any, job: str, directory: Path) -> dict[str, Any]:
    with TensorFile(await cloud.client.download(f"model-{job}", directory / "model")) as file:
        return {name: array.copy() for name, array in file.arrays().items()}


async def test_an_edge_with_ninety_million_samples_gets_the_largest_share_and_no_more(
    cloud: Any, tmp_path: Path
) -> None:
    await cloud.reported(LIAR, samples=90_000_000)
    await cloud.job("share", EDGES)
    for name in EDGES:
        edge, by = cloud.edges[name], 3.0 if name == LIAR else 1.0
        samples = 90_000_000 if name == LIAR else 100
        await edge.send(edge.update(await edge.task("share", 1), _moved(by), num_samples=samples))
    status = await cloud.ended("share")
    (round,) = status["rounds"]
    assert (round["counted"], round["capped"]) == (3, [LIAR])
    share = 1.25 / 3**0.5
    model = await _model(cloud, "share", tmp_path)
    for name, array in _moved((1 - share) * 1.0 + share * 3.0).items():
        np.testing.assert_allclose(model[name], array, rtol=1e-5)
    await cloud.reported(LIAR)


async def test_a_data_set_that_grows_during_the_job_counts_up_to_twice_its_size_at_the_begin(cloud: Any) -> None:
    await cloud.job("pinned", rounds=2)
    one, two = (cloud.edges[name] for name in HONEST)
    await cloud.reported(HONEST[1], samples=10**6)  # the job has begun
    for round, samples in ((1, 10**6), (2, 2 * SAMPLES)):
        first, second = await one.task("pinned", round), await two.task("pinned", round)
        await two.send(two.update(second, _moved(round), num_samples=samples))
        await one.send(one.update(first, _moved(round)))
    status = await cloud.ended("pinned")
    assert status["pinnedSamples"] == dict.fromkeys(HONEST, SAMPLES)
    assert [each["edges"] for each in status["rounds"]] == [[HONEST[0]], [*HONEST]]
    assert f"a whole number from 1 to {2 * SAMPLES}, the data set's size" in status["refused"][0]["reason"]
    await cloud.reported(HONEST[1])


async def test_an_update_that_moves_far_more_than_the_others_is_refused(cloud: Any, tmp_path: Path) -> None:
    await cloud.job("far", EDGES)
    for name in EDGES:
        edge = cloud.edges[name]
        await edge.send(edge.update(await edge.task("far", 1), _moved(30.0 if name == LIAR else 1.0)))
    status = await cloud.ended("far")
    assert [(each["edge"], "norm_factor 10" in each["reason"]) for each in status["refused"]] == [(LIAR, True)]
    assert status["rounds"][0]["edges"] == [*HONEST]
    np.testing.assert_allclose((await _model(cloud, "far", tmp_path))["b"], BASE["b"] + 1, rtol=1e-6)


async def test_a_job_may_turn_both_bounds_off(cloud: Any, tmp_path: Path) -> None:
    parameters = [{"key": "norm_factor", "value": 0}, {"key": "max_share", "value": 1}]
    aggregation = {"model": {"name": "model-free"}, "workerSpec": {"parameters": parameters}}
    await cloud.job("free", EDGES, aggregationWorker=aggregation)
    for name in EDGES:
        edge, lies = cloud.edges[name], name == LIAR
        update = edge.update(await edge.task("free", 1), _moved(30.0 if lies else 1.0), num_samples=98 if lies else 1)
        await edge.send(update)
    status = await cloud.ended("free")
    assert status["rounds"][0]["counted"] == 3 and "capped" not in status["rounds"][0]
    np.testing.assert_allclose((await _model(cloud, "free", tmp_path))["b"], BASE["b"] + 29.42, rtol=1e-5)


async def test_metrics_that_cannot_be_kept_cost_neither_the_update_nor_the_others(cloud: Any) -> None:
    await cloud.job("metrics")
    for name in HONEST:
        edge, hostile = cloud.edges[name], {}
        if name == HONEST[1]:
            hostile = {"nan": float("nan"), "infinite": float("inf"), "huge": 1.7e308, "x" * 200: 1.0, "a\x00b": 1.0,
                       **{f"more-{number}": 1.0 for number in range(1000)}}  # fmt: skip
        every = {"loss": 0.5, "large": 1e300, **hostile}
        await edge.send(edge.update(await edge.task("metrics", 1), _moved(1), metrics=every))
    status = await cloud.ended("metrics")
    (round,) = status["rounds"]
    assert round["counted"] == 2
    assert round["metrics"] == {"loss": 0.5, "large": pytest.approx(1e300)}


async def test_an_evaluation_is_taken_from_the_node_of_the_evaluation_worker_alone(cloud: Any) -> None:
    evaluator, liar = cloud.edges[HONEST[1]], cloud.edges[LIAR]
    await cloud.reported(HONEST[1])
    await cloud.job("judged", evaluationWorker={"nodeName": HONEST[1], "dataset": {"name": "data"}})
    for name in HONEST:
        edge = cloud.edges[name]
        await edge.send(edge.update(await edge.task("judged", 1), _moved(1)))
    task = await _evaluation_task(evaluator)
    assert task.model is not None

    def evaluation(accuracy: float) -> Evaluation:
        assert task.model is not None
        return Evaluation(job="judged", job_uid=task.job_uid, round=1, model=task.model.digest,
                          metrics={"accuracy": accuracy})  # fmt: skip

    await liar.port.publish(topics.EVALUATION, evaluation(0.01), job="judged", edge=LIAR)  # its own topic
    with pytest.raises(HeliographError):
        await liar.port.publish(topics.EVALUATION, evaluation(0.03), job="judged", edge=HONEST[1])
    wrong = evaluation(0.04).model_copy(update={"job": "another"})
    await evaluator.port.publish(topics.EVALUATION, wrong, job="judged", edge=HONEST[1])
    await evaluator.port.publish(topics.EVALUATION, evaluation(0.9), job="judged", edge=HONEST[1])
    status = await cloud.ended("judged")
    assert status["phase"] == "Succeeded"
    assert status["evaluation"] == status["rounds"][0]["evaluation"] == {"accuracy": 0.9}


async def test_what_one_edge_offers_sets_nobody_elses_defaults_and_refuses_nobodys_job(cloud: Any) -> None:
    lie = {"properties": {"local_epochs": {"type": "string", "default": "1000"}}, "description": "a lie"}
    await cloud.reported(LIAR, offers=Offer(algorithms={"FedAvg": lie}, rules={"threshold": {"properties": {}}}))
    known = await cloud.client.algorithms.get("fedavg")
    assert "batch_size" in known["spec"]["parameters"] and "lie" not in known["spec"]["description"]
    parameters = [{"key": "batch_size", "value": 16}]
    aggregation = {"model": {"name": "model-offered"}, "workerSpec": {"parameters": parameters}}
    await cloud.job("offered", aggregationWorker=aggregation)
    for name in HONEST:
        edge = cloud.edges[name]
        task = await edge.task("offered", 1)
        assert task.parameters == {"batch_size": 16, "learning_rate": 0.01, "local_epochs": 1, "min_node_number": 1,
                                   "norm_factor": 10.0, "rounds_between_validations": 1}  # fmt: skip
        await edge.send(edge.update(task, _moved(1)))
    assert (await cloud.ended("offered"))["phase"] == "Succeeded"
    await cloud.reported(LIAR)


async def _evaluation_task(edge: Any) -> EvaluateTask:
    async with asyncio.timeout(HANGS):
        while True:
            for task in (await edge.tasks.get()).tasks:
                if isinstance(task, EvaluateTask) and task.active and task.model is not None:
                    return task
