"""Labelling over the shipped processes: hard samples from a worker to the queue, and labels back to whoever listens."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import aiomqtt

from benchmarks.declaration import Samples
from heliograph.bus.contract import topics
from heliograph.client import AsyncClient
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster

BURST, SAMPLES = 100, 1000
SCRIPT = """
import numpy as np
from heliograph import JointInference, session
RNG, ROW = np.random.default_rng(), np.array([0.5, 0.5])

def model(batch):
    for _ in range(int(batch[0].flat[0])):  # each request brings as many hard samples as it says
        session.serving("edge").publish_hard(RNG.random((32, 32, 3), np.float32), ROW)
    return [ROW] * len(batch)

JointInference("nothing", edge=model, rule="never").serve()
"""
REPLY = "heliograph/reply/device/1"
SPEC = {
    "edgeWorker": {"model": {"name": "shallow"}, "scriptBootFile": "edge.py"},
    "hardSampleRule": {"name": "never"},
    "hardSamplesTo": "learn",
}


def labelling() -> Samples:
    """Return ``queued``, seconds from the capture of a thousand hard samples until all are tasks, and ``label``,
    milliseconds from each submit until it is answered and its event has come."""
    return asyncio.run(_labelling())


async def _labelling() -> Samples:
    with tempfile.TemporaryDirectory(prefix="heliograph-labelling-") as directory:
        code = Path(directory) / "code"
        code.mkdir()
        (code / "edge.py").write_text(SCRIPT)
        async with (
            LocalCluster(Path(directory) / "cluster", ["edge-1"], code=(code,)) as cluster,
            AsyncClient(cluster.server) as client,
        ):
            await client.models.create({"kind": "Model", "metadata": {"name": "shallow"}})
            service = {"kind": "JointInferenceService", "metadata": {"name": "nothing"}, "spec": SPEC}
            await client.services.create(service)
            queue = {"labelSchema": {"classes": ["a", "b"]}}
            await client.labels.create({"kind": "LabelQueue", "metadata": {"name": "learn"}, "spec": queue})
            broker = cluster.nodes["edge-1"].broker
            assert broker is not None
            async with (
                client.bus.subscribe(topics.LABEL_TASK.filter(job="learn")) as tasks,
                aiomqtt.Client(broker.host, broker.mqtt_port) as device,
            ):
                await _served(device, tasks)
                began = time.perf_counter()
                sent = 0
                for made in range(0, SAMPLES, BURST):
                    while sent < min(SAMPLES, made + 2 * BURST):  # a worker has at most 256 on their way
                        await _capture(device, BURST)
                        sent += BURST
                    for _ in range(BURST):
                        await anext(tasks)
                queued = time.perf_counter() - began
            return {"queued": [queued], "label": await _labels(client)}


async def _served(device: aiomqtt.Client, tasks: Any) -> None:
    """Return once the service's worker is there, and a first sample has become a task."""
    async with asyncio.timeout(60):
        while True:
            await _capture(device, 1)
            try:
                async with asyncio.timeout(0.5):
                    await anext(tasks)
                    return
            except TimeoutError:
                continue


async def _capture(device: aiomqtt.Client, count: int) -> None:
    body = json.dumps({"input": [count], "reply_to": REPLY})
    await device.publish("heliograph/inference/nothing/request", body)


async def _labels(client: AsyncClient) -> list[float]:
    laps: list[float] = []
    async with (
        client.bus.subscribe(topics.LABEL.filter(job="learn")) as labels,
        Labeller(client, "learn", "anna") as labeller,
    ):
        while len(laps) < SAMPLES // 2:
            for task in await labeller.claim(16):
                began = time.perf_counter()
                await labeller.submit(task, "a")
                await anext(labels)
                laps.append(1000 * (time.perf_counter() - began))
    return laps
