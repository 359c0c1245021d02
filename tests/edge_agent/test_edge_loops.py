"""Incremental learning by a node alone: with the link cut it labels, trains, evaluates and deploys, is killed, and goes
on; what it tells the cloud has no sample and no weights in it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np
import pytest

from heliograph.bus.contract.topics import CANDIDATE
from heliograph.bus.contract.weights_file import TensorFile, write
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

CODE = Path(__file__).parents[1] / "data" / "incremental"
EDGE, NAME = "edge-1", "points"


def _document(kind: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": NAME}, "spec": spec}


async def _create(client: AsyncClient) -> str:
    """Create the documents, and return the digest of the first model."""
    weights = write({"b": np.zeros(2, np.float32), "w": np.eye(2, dtype=np.float32)}, Path("/nonexistent"))
    await client.models.create(_document("Model", weights=weights.model_dump(mode="json")))
    await client.labels.create(_document(  # a claim whose answer is lost with an agent holds its tasks for a lease
        "LabelQueue", location="edge", labelSchema={"classes": ["left", "right"]}, leaseSeconds=5,
    ))  # fmt: skip
    await client.services.create(_document(
        "JointInferenceService", edgeWorker={"model": {"name": NAME}, "scriptBootFile": "serve.py"},
        hardSampleRule={"name": "always"}, hardSamplesTo=NAME,
    ))  # fmt: skip
    learned = {"model": {"name": NAME}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    await client.incremental_jobs.create(_document(
        "IncrementalLearningJob", location="edge", models=[learned], train={"newSamples": 30},
        gate={"leastSupport": 2, "margin": -0.9}, deployment={"canary": {"share": 0.5, "leastRequests": 5,
                                                                        "watchSeconds": 0.1}},
    ))  # fmt: skip
    return weights.digest


@asynccontextmanager
async def _device(cluster: LocalCluster, answers: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[None]:
    """A device that asks all the time, and a labeller on the node."""
    broker, rng = cluster.nodes[EDGE].broker, random.Random(1)
    assert broker is not None

    async def ask() -> None:
        async with aiomqtt.Client(broker.host, broker.mqtt_port) as device:
            await device.subscribe("heliograph/reply/device/1")
            while True:
                x = [rng.gauss(-2 if rng.random() < 0.5 else 2, 0.5), rng.gauss(0, 0.5)]
                body = {"input": x, "reply_to": "heliograph/reply/device/1"}
                await device.publish("heliograph/inference/points/request", json.dumps(body))
                with suppress(TimeoutError):  # the worker is not there yet, or not any more
                    async with asyncio.timeout(0.5):
                        answers.put_nowait(json.loads(bytes((await anext(device.messages)).payload)))

    async def label() -> None:
        url = f"mqtt://{broker.host}:{broker.mqtt_port}"
        while True:
            with suppress(HeliographError):  # the agent is not there
                async with AsyncClient(url, timeout=2) as node, Labeller(node, NAME, "anna") as labeller:
                    while True:
                        async for task in labeller.tasks():
                            with TensorFile(task.task.data.inline or b"", "sample") as sample:
                                await labeller.submit(task, "left" if sample.numpy("x")[0] < 0 else "right")
                        await asyncio.sleep(0.05)

    parts = [asyncio.create_task(ask()), asyncio.create_task(label())]
    try:
        yield
    finally:
        await cancel_and_wait(*parts)


async def _answered_by_another(answers: asyncio.Queue[dict[str, Any]], *known: str) -> str:
    """Return the version that answers, once it is none of these twenty times in a row."""
    row = 0
    async with asyncio.timeout(HANGS):
        while True:
            model = (await answers.get()).get("model", "")
            row = row + 1 if model and model not in known else 0
            if row >= 20:
                return str(model)


@pytest.mark.long
async def test_a_node_learns_alone_is_killed_and_goes_on(tmp_path: Path) -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    cluster = LocalCluster(tmp_path, [EDGE], code=(CODE,), relayed=(EDGE,))
    async with cluster, AsyncClient(cluster.server, leader_timeout=60) as client, _device(cluster, answers):
        async with client.bus.subscribe(CANDIDATE.filter()) as told:
            first = await _create(client)
            await cluster.wait_for_line(EDGE, "serves points")
            relay = cluster.nodes[EDGE].relay
            assert relay is not None
            relay.cut()
            await cluster.wait_for_line(EDGE, "round 1 with")
            await cluster.kill(EDGE)  # its candidate may be under way
            await cluster.start_agent(EDGE)
            second = await _answered_by_another(answers, first)
            await cluster.wait_for_line(EDGE, "round 2 with")
            third = await _answered_by_another(answers, first, second)
            relay.restore()
            async with asyncio.timeout(HANGS):
                async for job in client.incremental_jobs.watch(NAME):
                    there = job["status"]["edges"].get(EDGE, {})
                    if there.get("deployed") and there.get("metric"):
                        break
                candidate = await anext(told)
        assert there["metric"] > 0.9 and third != second
        ended = there["last"]["models"][NAME]
        assert ended["decision"] in ("deployed", "rolled-back", "undecided", "refused") and ended["digest"]
        assert b"inline" not in candidate.body, "the weights stay on the node"
        assert (await client.models.versions(NAME))["deployed"] == 0, "the cloud has no version of the edge's own"
