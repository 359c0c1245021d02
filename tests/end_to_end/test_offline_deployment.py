"""An edge is offline in the middle of a deployment: its model goes on answering, and the candidate is decided when the
edge is back."""

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

from heliograph.bus.contract.weights_file import TensorFile, write
from heliograph.client import AsyncClient
from heliograph.core.tasks import cancel_and_wait
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

CODE = Path(__file__).parents[1] / "data" / "incremental"
NAME, SAMPLES = "points", 30
CANARY = 100
"""The requests of a canary: at 50 a second at most, it lasts longer than it takes to cut the link."""


async def _create(client: AsyncClient) -> str:
    """Create the documents, and return the digest of the model that serves."""
    def document(kind: str, **spec: Any) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": NAME}, "spec": spec}

    weights = write({"b": np.zeros(2, np.float32), "w": np.eye(2, dtype=np.float32)}, Path("/nonexistent"))
    await client.models.create(document("Model", weights=weights.model_dump(mode="json")))
    await client.labels.create(document("LabelQueue", labelSchema={"classes": ["left", "right"]}))
    await client.services.create(document(
        "JointInferenceService", edgeWorker={"model": {"name": NAME}, "scriptBootFile": "serve.py"},
        hardSampleRule={"name": "always"}, hardSamplesTo=NAME,
    ))  # fmt: skip
    await client.incremental_jobs.create(document(
        "IncrementalLearningJob", models=[{"model": {"name": NAME}, "workerSpec": {"trainScriptBootFile": "learn.py"}}],
        train={"newSamples": SAMPLES}, gate={"leastSupport": 2, "margin": -0.9}, stop={"rounds": 1},
        deployment={"canary": {"share": 0.5, "leastRequests": CANARY, "mostLatency": 1000, "watchSeconds": 0.1}},
    ))  # fmt: skip
    return weights.digest


@asynccontextmanager
async def _device(cluster: LocalCluster, answers: asyncio.Queue[str]) -> AsyncIterator[None]:
    """A device that asks all the time; ``answers`` get the versions that answer."""
    broker, rng = cluster.nodes["edge-1"].broker, random.Random(1)
    assert broker is not None

    async def ask() -> None:
        async with aiomqtt.Client(broker.host, broker.mqtt_port) as device:
            await device.subscribe("heliograph/reply/device/1")
            while True:
                x = [rng.gauss(rng.choice((-2, 2)), 0.5), rng.gauss(0, 0.5)]
                body = {"input": x, "reply_to": "heliograph/reply/device/1"}
                await device.publish("heliograph/inference/points/request", json.dumps(body))
                with suppress(TimeoutError):  # the worker is not there yet
                    async with asyncio.timeout(0.5):
                        answer = json.loads(bytes((await anext(device.messages)).payload))  # type: ignore[arg-type]
                        answers.put_nowait(answer.get("model", ""))
                await asyncio.sleep(0.02)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        await cancel_and_wait(asking)


async def _label(client: AsyncClient) -> None:
    left = SAMPLES
    async with Labeller(client, NAME, "anna") as labeller:
        while left:
            for task in await labeller.claim(left):
                with TensorFile(task.task.data.inline or b"", "sample") as sample:
                    await labeller.submit(task, "left" if sample.numpy("x")[0] < 0 else "right")
                left -= 1


@pytest.mark.long
async def test_an_edge_that_is_offline_in_the_middle_of_a_deployment_goes_on_with_it(tmp_path: Path) -> None:
    answers: asyncio.Queue[str] = asyncio.Queue()
    cluster = LocalCluster(tmp_path, ["edge-1"], code=(CODE,), relayed=("edge-1",))
    async with cluster, AsyncClient(cluster.server) as client, _device(cluster, answers), asyncio.timeout(HANGS):
        first = await _create(client)
        relay = cluster.nodes["edge-1"].relay
        assert relay is not None
        await _label(client)
        async for job in client.incremental_jobs.watch(NAME):
            if job["status"]["loop"]["step"] == "canary":
                break
        relay.cut()
        candidate = job["status"]["loop"]["candidates"][NAME]["weights"]["digest"]
        async for edge in client.edges.watch("edge-1"):
            if not edge["status"]["online"]:
                break
        while not answers.empty():
            answers.get_nowait()
        offline = {await answers.get() for _ in range(50)}
        assert first in offline and offline <= {first, candidate}, "its model answers without a link"
        status = (await client.incremental_jobs.get(NAME))["status"]
        assert status["loop"]["step"] == "canary" and status["rounds"] == [], "nobody decides on what is not counted"
        relay.restore()
        async for job in client.incremental_jobs.watch(NAME):
            if job["status"]["phase"] == "Succeeded":
                break
        ended = job["status"]["rounds"][0]["models"][NAME]
        assert (ended["decision"], ended["digest"]) == ("deployed", candidate)
        row = 0
        while row < 50:  # it answers all requests
            row = row + 1 if await answers.get() == candidate else 0
