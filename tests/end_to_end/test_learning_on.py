"""The whole loop over the shipped processes: an edge's model meets a class that it does not have, and learns it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiomqtt
import pytest
from sklearn.datasets import load_digits

from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.end_to_end.learning_loop import ask_camera, deployed, label, subscribed
from tests.patience import HANGS

EDGE = """
import numpy as np
from sklearn.neural_network import MLPClassifier
from heliograph import JointInference

model = MLPClassifier((32,), random_state=0)
model.partial_fit(np.zeros((1, 64), np.float32), [0], classes=[0, 1])
JointInference("digits", edge=model, classes=["zero", "one"]).serve()
"""
LEARN = """
from sklearn.neural_network import MLPClassifier
from heliograph import IncrementalLearning

model = MLPClassifier((32,), random_state=0, learning_rate_init=0.01)
for this in IncrementalLearning(model).rounds():  # was: model.partial_fit(x, y, classes=[0, 1])
    for _ in range(40):
        model.partial_fit(this.x, this.y)
"""
NAMES = ("zero", "one", "two")


@pytest.mark.long
async def test_a_new_class_is_learned_and_served_by_its_name(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "edge.py").write_text(EDGE)
    (code / "learn.py").write_text(LEARN)
    x, y = load_digits(return_X_y=True)
    images = {each: (x[y == each] / 16).astype("float32")[:120] for each in range(3)}
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], code=(code,))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client, asyncio.timeout(4 * HANGS):
        await _create(client)
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None
        async with aiomqtt.Client(broker.host, broker.mqtt_port) as camera:
            await subscribed(camera)
            for number, classes in ((1, (0, 1)), (2, (2,))):
                known = {image.tobytes(): NAMES[each] for each in classes for image in images[each][:100]}
                for image in (image for each in classes for image in images[each][:100]):
                    await ask_camera(camera, image)
                await label(client, known)
                await client.resources("incremental-jobs").ask("training", "digits")
                await deployed(client, number)
            while (await ask_camera(camera, images[2][110]))["result"] != "two":  # until the edge has the version
                await asyncio.sleep(0.1)
            for each in range(3):
                answers = [(await ask_camera(camera, image))["result"] for image in images[each][100:]]
                assert answers.count(NAMES[each]) >= 0.8 * len(answers), (NAMES[each], answers)


async def _create(client: AsyncClient) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "digits"}})
    queue = {"labelSchema": {"classes": list(NAMES)}}
    await client.labels.create({"kind": "LabelQueue", "metadata": {"name": "digits"}, "spec": queue})
    service = {"edgeWorker": {"model": {"name": "digits"}, "scriptBootFile": "edge.py"},
               "hardSampleRule": {"name": "always"}, "hardSamplesTo": "digits"}  # fmt: skip
    await client.services.create({"kind": "JointInferenceService", "metadata": {"name": "digits"}, "spec": service})
    learned = {"model": {"name": "digits"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    job = {"models": [learned], "evaluation": {"heldOut": 10}, "gate": {"margin": -1, "leastSupport": 1}}
    await client.resources("incremental-jobs").create(
        {"kind": "IncrementalLearningJob", "metadata": {"name": "digits"}, "spec": job}
    )
