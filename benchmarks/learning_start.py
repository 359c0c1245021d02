"""From the label that triggers a round of incremental learning to the first step of its training.

Broker, coordinator, agent and workers are the shipped processes; samples come from an edge's service."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np

from benchmarks.declaration import Samples
from heliograph.bus.contract import topics
from heliograph.bus.contract.weights_file import write
from heliograph.client import AsyncClient
from heliograph.inference.inputs import as_tree, pack
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster

NAME = "points"
SAMPLES, ROUNDS = 40, 4
SERVE = """
import numpy as np
from heliograph import JointInference

JointInference("points", edge=lambda rows: np.full((len(rows), 2), 0.5), rule="always").serve()
"""
LEARN = """
import time
imported = time.time()
import numpy as np
from heliograph import IncrementalLearning
imported = time.time() - imported

weights = {"w": np.zeros((2, 2), np.float32)}
for this in IncrementalLearning(weights, predict=lambda x: x @ weights["w"]).rounds():
    print(f"began {time.time()} {imported}", flush=True)
    weights["w"] = np.eye(2, dtype=np.float32) * (1 + this.number)
"""


def starts() -> Samples:
    """Return ``cold``, milliseconds from the triggering label's answer to the first step of a new process, less its
    imports; and ``warm``, the same where the worker of the round before is ready."""
    return asyncio.run(_starts())


async def _starts() -> Samples:
    with tempfile.TemporaryDirectory(prefix="heliograph-start-") as directory:
        code = Path(directory) / "code"
        code.mkdir()
        (code / "serve.py").write_text(SERVE)
        (code / "learn.py").write_text(LEARN)
        cluster = LocalCluster(Path(directory) / "cluster", ["edge-1"], code=(code,))
        async with cluster, AsyncClient(cluster.server, timeout=30) as client:
            await _create(client)
            await cluster.wait_for_line("edge-1", f"serves {NAME}")
            broker, found = cluster.nodes["edge-1"].broker, list[float]()
            assert broker is not None
            async with (
                aiomqtt.Client(broker.host, broker.mqtt_port) as device,
                client.bus.subscribe(topics.LABEL_TASK.filter(job=NAME)) as tasks,
            ):
                for number in range(ROUNDS):
                    for place in range(SAMPLES):
                        await _ask(device, [place % 2 - 0.5, number * SAMPLES + place])
                        await anext(tasks)
                    triggered = await _labelled(client)
                    line = await cluster.wait_for_line("cloud", "began ", times=number + 1)
                    began, imported = map(float, line.partition("began ")[2].split())
                    found.append(1000 * (began - triggered - (imported if not number else 0)))
                    await _ended(client, number + 1)
        return {"cold": found[:1], "warm": found[1:]}


async def _create(client: AsyncClient) -> None:
    def document(kind: str, **spec: Any) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": NAME}, "spec": spec}

    weights = write({"w": np.zeros((2, 2), np.float32)}, Path("/nonexistent"))
    await client.models.create(document("Model", weights=weights.model_dump(mode="json")))
    await client.models.create({"kind": "Model", "metadata": {"name": "served"}})
    await client.labels.create(document("LabelQueue", labelSchema={"classes": ["left", "right"]}))
    learned = {"model": {"name": NAME}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    await client.incremental_jobs.create(document(
        "IncrementalLearningJob", models=[learned], train={"newSamples": SAMPLES}, gate={"leastSupport": 1},
    ))  # fmt: skip
    await client.services.create(document(
        "JointInferenceService", edgeWorker={"model": {"name": "served"}, "scriptBootFile": "serve.py"},
        hardSampleRule={"name": "always"}, hardSamplesTo=NAME,
    ))  # fmt: skip


async def _ask(device: aiomqtt.Client, point: list[float]) -> None:
    body = pack({"input": as_tree(np.array(point, np.float32)), "reply_to": "heliograph/reply/device/1"})
    await device.publish(f"heliograph/inference/{NAME}/request", body)


async def _labelled(client: AsyncClient) -> float:
    """Label a round's samples; return when the last label was answered, which triggers the round."""
    left = SAMPLES
    async with Labeller(client, NAME, "oracle", source="oracle") as labeller:
        while left:
            for task in await labeller.claim(min(left, 32)):
                await labeller.submit(task, "left" if left % 2 else "right")
                left -= 1
        return time.time()


async def _ended(client: AsyncClient, rounds: int) -> None:
    async with asyncio.timeout(60):
        async for job in client.incremental_jobs.watch(NAME):
            if len(job["status"].get("rounds", [])) >= rounds:
                return
