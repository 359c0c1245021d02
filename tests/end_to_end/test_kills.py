"""Processes killed at every step of a job and in the middle of a write: the job ends with the same result."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.bus.roles import violations
from tests.end_to_end.cloud_worker import worker_of
from tests.patience import HANGS

EDGES = ("edge-1", "edge-2")
ROUNDS = 3


@pytest.fixture
def cluster(tmp_path: Path, regression: Any, faults: Any) -> Callable[[Any], LocalCluster]:
    """Return ``cluster(gates)``, which makes a cluster of two edges that run the gated script."""
    datasets = {"cloud": {"held-out": regression("held-out")}}
    return lambda gates: LocalCluster(
        tmp_path / "cluster", list(EDGES), datasets=datasets, code=(gates.code,), site_policy=faults.site_policy
    )


async def start_job(client: AsyncClient) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "count"}})
    worker = {"trainScriptBootFile": "gated.py"}
    spec = {
        "aggregationWorker": {"model": {"name": "count"}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
        "evaluationWorker": {"dataset": {"name": "held-out"}},
        "rounds": ROUNDS,
    }
    await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "gated"}, "spec": spec})


async def at_gates(cluster: LocalCluster, round: int) -> list[str]:
    """Wait until both edges have trained; return their gates."""
    gates = [f"{edge}-{round}" for edge in EDGES]
    for edge, gate in zip(EDGES, gates, strict=True):
        await cluster.wait_for_line(edge, f"at gate {gate}")
    return gates


async def until(client: AsyncClient, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the job's status satisfies ``holds``; return it."""
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch("gated"):
            if holds(document["status"]):
                return dict(document["status"])
    raise AssertionError(document)


async def check_result(client: AsyncClient, tmp_path: Path, size: int) -> None:
    """Check that the job has its result and counted each update once."""
    status = await until(client, lambda status: status["phase"] != "Running")
    assert status["phase"] == "Succeeded", status
    assert [(each["round"], each["counted"], each["numSamples"]) for each in status["rounds"]] == [
        (round, 2, 20) for round in range(1, ROUNDS + 1)
    ]
    assert status["evaluation"] == {"mean": ROUNDS}
    versions = (await client.models.get("count"))["status"]["versions"]
    assert [(each["version"], each["round"]) for each in versions] == [(1, ROUNDS)]
    with TensorFile(await client.download("count", tmp_path / "model.safetensors")) as file:
        np.testing.assert_array_equal(file.numpy("w"), np.full(size, ROUNDS, np.float32))


@pytest.mark.long
async def test_a_coordinator_that_is_killed_at_every_step_goes_on(
    tmp_path: Path, cluster: Any, gates: Any, faults: Any
) -> None:
    script = gates()
    faults.hurry()

    async def again() -> None:
        await local.start_coordinator()
        await local.wait_ready()

    async def struck() -> None:
        async with asyncio.timeout(HANGS):
            await local.wait_ended(COORDINATOR)
        assert faults.struck()
        await again()

    async with cluster(script) as local, AsyncClient(local.server, timeout=HANGS) as client:
        await start_job(client)
        await local.wait_for_line("edge-1", "at gate edge-1-initial")
        await local.kill(COORDINATOR)
        script.open("edge-1-initial")  # the round closes without a coordinator
        await again()

        one, two = await at_gates(local, 1)
        await local.kill(COORDINATOR)
        script.open(one)  # an update arrives without a coordinator
        await again()
        faults.kill(COORDINATOR, "before-put-resources.gated")
        script.open(two)  # it has received the close, but not stored it
        await struck()

        both = await at_gates(local, 2)
        faults.kill(COORDINATOR, "after-put-resources.gated")
        script.open(*both)  # it has stored the start of the next round, but not published it
        await struck()

        script.open(*await at_gates(local, 3))
        await until(client, lambda status: status["step"] == "evaluating")
        await local.kill(COORDINATOR)
        async with client.bus.subscribe(topics.EVALUATION.filter(job="gated")) as evaluations:
            script.open("cloud-evaluate")  # the evaluation arrives without a coordinator
            while decode((await anext(evaluations)).body).data["round"] != ROUNDS:
                pass
        faults.kill(COORDINATOR, "after-put-resources.count")  # the model has its version, but the job has not ended
        await local.start_coordinator()
        await struck()
        await check_result(client, tmp_path, 3)


@pytest.mark.long
async def test_an_aggregation_worker_that_is_killed_at_every_step_goes_on(
    tmp_path: Path, cluster: Any, gates: Any, faults: Any
) -> None:
    size = 100_003  # too large for an event, so leftovers would lie in buckets
    script = gates(size)
    script.open("cloud-evaluate")
    async with cluster(script) as local, AsyncClient(local.server, timeout=HANGS) as client:
        await start_job(client)
        faults.kill("aggregate", "after-put-rounds.0")  # its close record is written, but not announced
        script.open("edge-1-initial")

        one, two = await at_gates(local, 1)
        assert faults.struck()
        async with client.bus.subscribe(topics.MODEL_UPDATE.filter(job="gated")) as updates:
            script.open(one)
            await anext(updates)
        os.kill(await worker_of(local, client, "aggregation"), signal.SIGKILL)  # while it collects updates
        faults.kill("aggregate", "before-put-rounds.1")  # it has summed the updates, but not written the close record
        script.open(two)

        both = await at_gates(local, 2)
        assert faults.struck()
        faults.kill("aggregate", "after-publish-aggregation")  # it has announced the close, but not deleted the updates
        script.open(*both)

        script.open(*await at_gates(local, 3))
        assert faults.struck()
        await check_result(client, tmp_path, size)
        await nothing_is_left(local, client)


@pytest.mark.long
async def test_the_clouds_agent_that_is_killed_at_every_step_goes_on(
    tmp_path: Path, cluster: Any, gates: Any
) -> None:
    size = 100_003
    script = gates(size)

    async def again() -> None:
        await local.kill("cloud")
        await local.start_agent("cloud")
        await local.wait_ready()

    async with cluster(script) as local, AsyncClient(local.server, timeout=HANGS) as client:
        await start_job(client)
        await local.wait_for_line("edge-1", "at gate edge-1-initial")
        await again()
        script.open("edge-1-initial")
        for round in range(1, ROUNDS + 1):
            one, two = await at_gates(local, round)
            script.open(one)
            await again()
            script.open(two)
        await until(client, lambda status: status["step"] == "evaluating")
        await again()
        script.open("cloud-evaluate")
        await check_result(client, tmp_path, size)
        await nothing_is_left(local, client)


async def nothing_is_left(local: LocalCluster, client: AsyncClient) -> None:
    """Check that buckets and the cloud's disk have no update, and no model except the result."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource="edges")) as changes:
        while any(each["status"]["workers"] for each in await client.edges.list()):
            await anext(changes)  # the workers delete their files before they end
    async with connect(local.broker.url(COORDINATOR)) as bus:
        await bus.link.wait_up(HANGS)
        uploads = [await bus.blobs(f"up-{edge}") for edge in EDGES]
        models = await bus.blobs("models")
        async with asyncio.timeout(HANGS):  # the last deletions follow the job's end without a message
            while any([await each.digests() for each in uploads]) or len(await models.digests()) > 1:
                await asyncio.sleep(0.05)
        assert len(await models.digests()) == 1
    assert list((local.nodes["cloud"].directory / "state" / "workers").glob("*/updates")) == []
    assert violations(local.broker) == [], "nobody asks the broker for what it refuses"
