"""Algorithms of a package outside Heliograph, in jobs of real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.end_to_end.cloud_worker import worker_of
from tests.patience import HANGS

CODE = Path(__file__).parent.parent / "data" / "code"
ROUNDS = 4


def _task(algorithm: str, script: str, edges: tuple[str, ...], **spec: Any) -> dict[str, Any]:
    worker = {"trainScriptBootFile": script}
    aggregation = {"model": {"name": "toy"}, "workerSpec": {"aggregationAlgorithm": algorithm, **spec}}
    return {
        "kind": "FederatedTask",
        "metadata": {"name": "job"},
        "spec": {
            "aggregationWorker": aggregation,
            "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in edges],
            "rounds": ROUNDS,
        },
    }


async def _started(client: AsyncClient, task: dict[str, Any]) -> None:
    async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource="algorithms")) as changes:
        wanted = task["spec"]["aggregationWorker"]["workerSpec"]["aggregationAlgorithm"].lower()
        while all(each["metadata"]["name"] != wanted for each in await client.algorithms.list()):
            await anext(changes)
    await client.models.create({"kind": "Model", "metadata": {"name": "toy"}})
    await client.jobs.create(task)


async def _ended(client: AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch("job"):  # noqa: B007 the last one counts
            pass
    return dict(document["status"])


def _by_moments(rounds: int, size: int) -> Any:
    """Return the model that ToyMoments makes of rounds in which every update adds one to its base."""
    base, m, v = np.zeros(size, np.float32), np.zeros(size, np.float32), np.full(size, 1e-6, np.float32)
    half = np.float32(0.5)
    for step in range(1, rounds + 1):
        update = base + 1
        change = update * half + update * half - base
        m = 0.9 * m + 0.1 * change
        v = 0.99 * v + 0.01 * change * change
        base = base + 0.25 * (m / (1 - 0.9**step)) / (np.sqrt(v) + 1e-3)
    return base


@pytest.mark.long
async def test_an_algorithms_state_outlives_its_process(
    tmp_path: Path, gates: Any, faults: Any, installed_algorithms: Any
) -> None:
    installed_algorithms()
    size, edges = 100_003, ("edge-1", "edge-2")
    script = gates(size)
    parameters = [{"key": "server_rate", "value": 0.25}]

    def at(round: int) -> list[str]:
        return [f"{edge}-{round}" for edge in edges]

    async def trained(local: LocalCluster, round: int) -> None:
        for edge, gate in zip(edges, at(round), strict=True):
            await local.wait_for_line(edge, f"at gate {gate}")

    cluster = LocalCluster(tmp_path / "cluster", list(edges), code=(script.code,), site_policy=faults.site_policy)
    async with cluster as local, AsyncClient(local.server, timeout=HANGS) as client:
        await _started(client, _task("ToyMoments", "gated.py", edges, parameters=parameters))
        script.open("edge-1-initial", *at(1))
        await trained(local, 2)
        os.kill(await worker_of(local, client, "aggregation"), signal.SIGKILL)  # between two rounds
        faults.kill("aggregate", "before-put-rounds.2")  # its files are stored, but not its close record
        script.open(*at(2))
        await trained(local, 3)
        assert faults.struck()
        faults.kill("aggregate", "after-put-rounds.3")  # its close record is written, but not announced
        script.open(*at(3), *at(4))
        status = await _ended(client)
        assert status["phase"] == "Succeeded", status
        assert faults.struck()
        assert [(each["round"], each["counted"]) for each in status["rounds"]] == [(n, 2) for n in range(1, 5)]
        with TensorFile(await client.download("toy", tmp_path / "model")) as file:
            np.testing.assert_array_equal(file.numpy("w"), _by_moments(ROUNDS, size))
        await _only_this_is_left(local, {status["model"]["digest"]})


async def test_each_edge_trains_the_model_that_was_made_for_it(tmp_path: Path, installed_algorithms: Any) -> None:
    installed_algorithms()
    edges = ("edge-1", "edge-2", "edge-3")
    parameters = [{"key": "near", "value": 5.0}]  # edge-1 and edge-2 are near, edge-3 is not
    cluster = LocalCluster(tmp_path / "cluster", list(edges), code=(CODE,))
    async with cluster as local, AsyncClient(local.server, timeout=HANGS) as client:
        await _started(client, _task("ToyClusters", "toy_round.py", edges, parameters=parameters))
        status = await _ended(client)
        assert status["phase"] == "Succeeded", status
        control = "control 38.333, counted 3"
        for edge in edges:
            await local.wait_for_line(edge, "round 1 begins with 0, control none, counted None")
            own = 1.25 if edge != "edge-3" else 9.0
            for round in range(2, ROUNDS + 1):
                await local.wait_for_line(edge, f"round {round} begins with {own * (round - 1):g}, {control}")
        assert set(status["personal"]) == set(edges)
        result = {status["model"]["digest"]}
        await _only_this_is_left(local, result | {each["digest"] for each in status["personal"].values()})
        await client.jobs.delete("job")
        await _only_this_is_left(local, result)


async def _only_this_is_left(local: LocalCluster, wanted: set[str]) -> None:
    """Wait until the bucket of models contains only these digests."""
    async with connect(local.broker.url(COORDINATOR)) as bus:
        await bus.link.wait_up(HANGS)
        models = await bus.blobs(MODELS)
        async with asyncio.timeout(HANGS):  # no message announces the last deletion
            while set(await models.digests()) != wanted:
                await asyncio.sleep(0.05)
