"""A node that learns by itself: the documents of its loop, a device that asks all the time, and a labeller."""

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

from heliograph.bus.contract.weights_file import TensorFile, write
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster

CODE = Path(__file__).parents[1] / "data" / "incremental"
EDGE, NAME = "edge-1", "points"


def _document(kind: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": NAME}, "spec": spec}


async def create_loop(client: AsyncClient, **worker: Any) -> str:
    """Create the documents of a loop, and return the digest of the first model.

    Args:
        worker: further fields of the worker's spec.
    """
    weights = write({"b": np.zeros(2, np.float32), "w": np.eye(2, dtype=np.float32)}, Path("/nonexistent"))
    await client.models.create(_document("Model", weights=weights.model_dump(mode="json")))
    await client.labels.create(_document(  # a claim whose answer is lost with an agent holds its tasks for a lease
        "LabelQueue", location="edge", labelSchema={"classes": ["left", "right"]}, leaseSeconds=5,
    ))  # fmt: skip
    await client.services.create(_document(
        "JointInferenceService", edgeWorker={"model": {"name": NAME}, "scriptBootFile": "serve.py"},
        hardSampleRule={"name": "always"}, hardSamplesTo=NAME,
    ))  # fmt: skip
    learned = {"model": {"name": NAME}, "workerSpec": {"trainScriptBootFile": "learn.py", **worker}}
    await client.incremental_jobs.create(_document(
        "IncrementalLearningJob", location="edge", models=[learned], train={"newSamples": 30},
        gate={"leastSupport": 2, "margin": -0.9}, deployment={"canary": {"share": 0.5, "leastRequests": 5,
                                                                        "watchSeconds": 0.1}},
    ))  # fmt: skip
    return weights.digest


@asynccontextmanager
async def device_and_labeller(cluster: LocalCluster, answers: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[None]:
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
