"""The golden trace of incremental learning: the whole loop, from hard samples to versions that serve."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiomqtt

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster
from heliograph.simulations.check.golden_recording import SETTLED, copy_included, recorded, write

CLASSES = ["cat", "dog"]
REQUEST, REPLY = "heliograph/inference/line/request", "heliograph/reply/device/1"
ROUND_SAMPLES = 8
ROUNDS = ("deployed", "refused", "rolled-back", "deployed")
"""How the rounds end: the second candidate answers everything wrong, and the third fails where it serves."""
_LEARN = """
import os
import sys
from pathlib import Path
import numpy as np
from heliograph import IncrementalLearning
weights = {"w": np.zeros((2, 2), np.float32)}
for this in IncrementalLearning(weights, predict=lambda x: x @ weights["w"]).rounds():
    if this.number == 2 and not Path("crashed").exists():
        Path("crashed").touch()
        sys.stdout.flush()
        os._exit(9)
    weights["w"][:] = np.eye(2) * {1: 1, 2: -1, 3: 3, 4: 2}[this.number]
"""
_SERVE = """
import numpy as np
from heliograph import JointInference
class Line:
    def __init__(self):
        self.w = np.zeros((2, 2), np.float32)
    def get(self):
        return {"w": self.w.copy()}
    def set(self, arrays):
        self.w = np.array(arrays["w"])
    def __call__(self, batch):
        if self.w.max() == 3:
            raise RuntimeError("the third candidate fails")
        scores = np.exp(np.stack(batch) @ self.w)
        return scores / scores.sum(1, keepdims=True)
JointInference("line", edge=Line(), rule="always").serve()
"""


async def learning(path: Path) -> None:
    """Record an incremental learning job on real processes. A device asks, and what it asks is labelled; one candidate
    is refused by the gate, one is taken back in its canary, one version is rolled back by hand, and a training is
    killed."""
    with TemporaryDirectory(prefix="heliograph-") as name:
        directory, world = Path(name), World()
        write(directory / "code" / "learn.py", _LEARN)
        write(directory / "code" / "serve.py", _SERVE)
        cluster = LocalCluster(directory / "cluster", ["edge-1"], code=(directory / "code",))
        async with (
            cluster,
            AsyncClient(cluster.server, leader_timeout=60) as client,
            recorded(cluster, directory / "whole.mcap"),
        ):
            await cluster.kill("coordinator")  # the next one shows what there is, which the recording needs
            await cluster.start_coordinator()
            await _create(client)
            broker = cluster.nodes["edge-1"].broker
            assert broker is not None
            async with aiomqtt.Client(broker.host, broker.mqtt_port) as device:
                await device.subscribe(REPLY)
                for number, decision in enumerate(ROUNDS, 1):
                    samples = _samples(number)
                    await _until_served(device, samples[0])
                    await _ask_together(device, samples)
                    await world.sleep(SETTLED)
                    await _label(client, len(samples))
                    await _until_ended(client, device, number, decision, samples)
                    await world.sleep(SETTLED)
            await client.models.rollback("line")
            await world.sleep(SETTLED)
            await client.incremental_jobs.stop("line")
        copy_included(directory / "whole.mcap", path)


async def _create(client: AsyncClient) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
    await client.labels.create({"kind": "LabelQueue", "metadata": {"name": "line"},
                                "spec": {"labelSchema": {"classes": CLASSES}}})  # fmt: skip
    await client.services.create({
        "kind": "JointInferenceService", "metadata": {"name": "line"},
        "spec": {"edgeWorker": {"model": {"name": "line"}, "scriptBootFile": "serve.py"},
                 "hardSampleRule": {"name": "always"}, "hardSamplesTo": "line"},
    })  # fmt: skip
    await client.incremental_jobs.create({
        "kind": "IncrementalLearningJob", "metadata": {"name": "line"},
        "spec": {"models": [{"model": {"name": "line"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}],
                 "train": {"newSamples": ROUND_SAMPLES}, "evaluation": {"heldOut": 50},
                 "gate": {"leastSupport": 2, "margin": -0.9},
                 "deployment": {"canary": {"share": 0.75, "leastRequests": 5, "mostLatency": 1000,
                                           "watchSeconds": 2}}},
    })  # fmt: skip


def _samples(number: int) -> list[list[float]]:
    """Return the points of a round: none of them comes in another one."""
    return [[float(number), place / 8] if place % 2 else [place / 8, float(number)] for place in range(ROUND_SAMPLES)]


async def _until_served(device: aiomqtt.Client, sample: Sequence[float]) -> None:
    """Ask until the service answers."""
    while True:
        with suppress(TimeoutError):
            (answer,) = await _ask_together(device, [sample])
            if "error" not in answer:
                return
        await World().sleep(0.2)


async def _ask_together(device: aiomqtt.Client, samples: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Ask in a burst, and return the answers: so whoever counts once a second counts all or none of them."""
    for sample in samples:
        await device.publish(REQUEST, json.dumps({"input": sample, "reply_to": REPLY}))
    async with asyncio.timeout(5):
        return [json.loads(bytes((await anext(device.messages)).payload)) for _ in samples]


async def _label(client: AsyncClient, left: int) -> None:
    async with Labeller(client, "line", "anna") as labeller:
        while left:  # they become tasks one after the other
            for task in await labeller.claim(left):
                with TensorFile(task.task.data.inline or b"", "sample") as sample:
                    cat, dog = sample.numpy("x")
                await labeller.submit(task, CLASSES[int(cat < dog)])
                left -= 1


async def _until_ended(
    client: AsyncClient, device: aiomqtt.Client, number: int, decision: str, samples: Sequence[Sequence[float]]
) -> None:  # fmt: skip
    """Wait for the end of a round, and ask meanwhile what was asked before, for its canary."""

    async def ask() -> None:
        while True:
            await _ask_together(device, samples)
            await World().sleep(SETTLED)

    asking: asyncio.Task[None] | None = None
    try:
        async for job in client.incremental_jobs.watch("line"):
            status = job["status"]
            if asking is None and status["loop"]["step"] in ("canary", "watching"):
                asking = asyncio.create_task(ask())
            if len(status["rounds"]) == number:
                found = status["rounds"][-1]["models"]["line"]
                assert found["decision"] == decision, found
                return
    finally:
        if asking is not None:
            await cancel_and_wait(asking)
