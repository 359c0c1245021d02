"""A large hard sample over real processes: what the script's redact hook makes of it is labelled in the cloud."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.inference.inputs import as_tree, pack
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

SCRIPT = """
import numpy as np
from heliograph import JointInference

def blur(image):
    image = image.copy()
    image[:320] = 0  # where the face is
    return image

JointInference("street", edge=lambda rows: np.full((len(rows), 2), 0.5), redact=blur).serve()
"""


@pytest.mark.long
async def test_a_redacted_image_of_five_megabytes_is_labelled(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(SCRIPT)
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], code=(tmp_path,))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        def document(kind: str, **spec: Any) -> dict[str, Any]:
            return {"kind": kind, "metadata": {"name": "street"}, "spec": spec}

        await client.models.create(document("Model"))
        await client.labels.create(document("LabelQueue", labelSchema={"classes": ["car", "tram"]}))
        await client.services.create(document(
            "JointInferenceService", edgeWorker={"model": {"name": "street"}, "scriptBootFile": "serve.py"},
            hardSampleRule={"name": "always"}, hardSamplesTo="street",
        ))  # fmt: skip
        async with asyncio.timeout(HANGS):
            async for service in client.services.watch("street"):
                if service["status"]["phase"] == "Running":
                    break
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None
        async with aiomqtt.Client(broker.host, broker.mqtt_port) as device:
            image = as_tree(np.full((640, 640, 3), 7, np.float32))
            body = pack({"input": image, "reply_to": "heliograph/reply/camera/1"})
            await device.publish("heliograph/inference/street/request", body)
        async with asyncio.timeout(HANGS), Labeller(client, "street", "anna") as labeller:
            async for task in labeller.tasks(follow=True):
                with TensorFile(task.task.data.inline or b"", "sample") as sample:
                    image = sample.numpy("x")
                await labeller.submit(task, "car")
                break
        assert image.shape == (640, 640, 3)
        assert (np.unique(image[:320]).tolist(), np.unique(image[320:]).tolist()) == ([0.0], [7.0])
