"""An edge that was away while a model got three versions serves the newest when it is back, and none between."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from heliograph.bus.contract.weights_file import dumps
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.end_to_end.learning_loop import ask_camera, subscribed
from tests.patience import HANGS

EDGE = """
import numpy as np
from heliograph import JointInference

class Constant:
    def __init__(self):
        self.b = np.zeros(4, np.float32)
    def get(self):
        return {"b": self.b.copy()}
    def set(self, arrays):
        self.b = np.array(arrays["b"])
    def __call__(self, batch):  # the class tells which weights answered
        return [self.b for _ in batch]

JointInference("digits", edge=Constant(), rule="never").serve()
"""


@pytest.mark.long
async def test_an_edge_away_for_three_versions_gets_the_newest(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "edge.py").write_text(EDGE)
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], code=(code,), relayed=("edge-1",))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client, asyncio.timeout(4 * HANGS):
        broker, relay = cluster.nodes["edge-1"].broker, cluster.nodes["edge-1"].relay
        assert broker is not None and relay is not None
        await client.models.create({"kind": "Model", "metadata": {"name": "digits"}})
        versions = [await _uploaded(client, tmp_path, 0)]
        edge = {"model": {"name": "digits"}, "scriptBootFile": "edge.py"}
        await client.services.create(
            {"kind": "JointInferenceService", "metadata": {"name": "digits"}, "spec": {"edgeWorker": edge}}
        )
        async with aiomqtt.Client(broker.host, broker.mqtt_port) as camera:
            await subscribed(camera)
            image = np.zeros(2)
            while (await ask_camera(camera, image)).get("model") != versions[0]:
                await asyncio.sleep(0.1)
            relay.cut("reset")
            for number in (1, 2, 3):
                versions.append(await _uploaded(client, tmp_path, number))
            away = await ask_camera(camera, image)
            assert (away["model"], away["result"]) == (versions[0], 0), "it serves what it has"
            relay.restore()
            seen = [away]
            while seen[-1]["model"] != versions[3]:
                seen.append(await ask_camera(camera, image))
    assert {each["model"] for each in seen} == {versions[0], versions[3]}, seen
    assert all(each["result"] == versions.index(each["model"]) for each in seen), seen


async def _uploaded(client: AsyncClient, directory: Path, number: int) -> str:
    """Upload weights that answer ``number``, and return their digest."""
    content = dumps({"b": np.eye(4, dtype=np.float32)[number]})
    file = directory / f"{number}.safetensors"
    file.write_bytes(content)
    await client.upload("digits", file)
    return hashlib.sha256(content).hexdigest()
