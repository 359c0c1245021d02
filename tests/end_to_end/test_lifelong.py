"""A lifelong model over the shipped processes: unknown samples are collected, a job opens their task, and it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np
import pytest
from sklearn.datasets import load_digits

from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.end_to_end.learning_loop import ask_camera, deployed, label, subscribed
from tests.patience import HANGS

MODEL = """
from sklearn.neural_network import MLPClassifier

def make():
    return MLPClassifier((32,), random_state=0, learning_rate_init=0.01)

def train(model, x, y):
    for _ in range(30):
        model.partial_fit(x, y)
"""
EDGE = """
from heliograph import JointInference
from heliograph.lifelong import LifelongModel
from network import make

JointInference("digits", edge=LifelongModel(make, classes=3), classes=["zero", "one", "two"]).serve()
"""
LEARN = """
from heliograph import IncrementalLearning
from heliograph.lifelong import LifelongModel
from network import make, train

model = LifelongModel(make, train, classes=3)
for this in IncrementalLearning(model).rounds():
    print(model.learn(this))
"""
NAMES = ("zero", "one", "two")


@pytest.mark.long
async def test_unknown_samples_are_collected_and_their_task_is_opened_and_served(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    for name, text in (("network.py", MODEL), ("edge.py", EDGE), ("learn.py", LEARN)):
        (code / name).write_text(text)
    x, y = load_digits(n_class=3, return_X_y=True)
    upright = (x / 16).astype(np.float32)
    kinds = {"upright": upright, "negative": 1 - upright}
    known = {image.tobytes(): NAMES[each] for images in kinds.values() for image, each in zip(images, y, strict=True)}
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], code=(code,))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client, asyncio.timeout(4 * HANGS):
        await _create(client)
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None
        async with aiomqtt.Client(broker.host, broker.mqtt_port) as camera:
            await subscribed(camera)
            collected = []
            for number, images in enumerate(kinds.values(), 1):
                answers = [(image, await ask_camera(camera, image)) for image in images[:200]]
                hard = {image.tobytes() for image, answer in answers if answer["degraded"]}
                collected.append(len(hard))
                await label(client, {each: known[each] for each in hard})
                await client.resources("incremental-jobs").ask("training", "digits")
                await deployed(client, number)
                asked = next(image for image in images if image.tobytes() in hard)  # another one would be a new sample
                while (await ask_camera(camera, asked)).get("model") == answers[-1][1].get("model"):
                    await asyncio.sleep(0.1)  # until the edge has the version
            assert min(collected) > 180, collected  # nothing was known of either kind
            for images in kinds.values():  # both tasks are in the one version
                said = [await ask_camera(camera, image) for image in images[400:500]]
                assert sum(not each["degraded"] for each in said) > 70, said
                right = [each["result"] == NAMES[label] for each, label in zip(said, y[400:500], strict=True)]
                assert sum(right) > 85, right


async def _create(client: AsyncClient) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "digits"}})
    queue: dict[str, Any] = {"labelSchema": {"classes": list(NAMES)}}
    await client.labels.create({"kind": "LabelQueue", "metadata": {"name": "digits"}, "spec": queue})
    service = {"edgeWorker": {"model": {"name": "digits"}, "scriptBootFile": "edge.py"},
               "hardSampleRule": {"name": "unknown"}, "hardSamplesTo": "digits"}  # fmt: skip
    await client.services.create({"kind": "JointInferenceService", "metadata": {"name": "digits"}, "spec": service})
    learned = {"model": {"name": "digits"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    job = {"models": [learned], "evaluation": {"heldOut": 10}, "gate": {"margin": -1, "leastSupport": 1}}
    await client.resources("incremental-jobs").create(
        {"kind": "IncrementalLearningJob", "metadata": {"name": "digits"}, "spec": job}
    )
