"""A pair training job over the shipped processes: its worker is killed once in every step, and its pair then serves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np
import pytest

from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

TRAIN = """
import os
import sys
from pathlib import Path

import numpy as np

from heliograph import PairTraining, dataset


def killed_once(step):
    if not Path(step).exists():
        Path(step).touch()
        sys.stdout.flush()
        os._exit(9)


def embed(x):
    killed_once("selecting")
    return x


def measure():
    killed_once("measuring")
    return 1.0


def scores(model, x):
    return x[:, : len(model["w"])] @ model["w"]


own, public = np.load(dataset()), np.load(dataset("public"))
shallow, deep = ({"w": np.zeros((width, 2), np.float32)} for width in (1, 2))
pair = PairTraining(shallow, deep, predict=scores, outputs="logits", embed=embed, evaluate=measure)
for part in pair.parts(own["x"], own["y"], public["x"]):  # was: train(deep, x, y); train(shallow, x, y)
    killed_once(f"training-{part.side}")
    for batch in part.batches(8, 20):
        loss, error = batch.loss(scores(part.model, batch.x))
        part.model["w"] -= 0.1 * batch.x[:, : len(part.model["w"])].T @ error
    part.report(loss=loss)
"""
SERVE = """
import sys

import numpy as np

from heliograph import BigModel, JointInference


class Line:
    def __init__(self, width):
        self.w = np.zeros((width, 2), np.float32)

    def get(self):
        return {"w": self.w.copy()}

    def set(self, arrays):
        self.w[:] = arrays["w"]

    def __call__(self, x):
        return np.asarray(x)[:, : len(self.w)] @ self.w


if sys.argv[1] == "edge":
    JointInference("line", edge=Line(1), outputs="logits").serve()
else:
    BigModel("line", Line(2), outputs="logits").serve()
"""
REPLY = "heliograph/reply/camera/1"
ANSWERED = 2.0
"""Seconds after which a request is sent again: before the service is there nobody may hear it."""


@pytest.mark.long
async def test_a_worker_that_is_killed_in_every_step_trains_a_pair_that_serves(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(TRAIN)
    (code / "serve.py").write_text(SERVE)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (200, 2)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", x=x[:80], y=(x[:80].sum(1) > 0).astype(int))
    np.savez(tmp_path / "public.npz", x=x[80:])
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], code=(code,))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client, asyncio.timeout(3 * HANGS):
        for name in ("mine", "public"):
            await client.push(name, tmp_path / f"{name}.npz", edge="edge-1")
        await client.pair_jobs.create(_job())
        steps: list[str] = []
        document: dict[str, Any] = {}
        async for document in client.pair_jobs.watch("line"):
            steps.append(document["status"]["step"])
            if document["status"]["phase"] in ("Failed", "Succeeded"):
                break
        status = document["status"]
        assert (status["phase"], status["attempt"]) == ("Succeeded", 1), (status, steps)
        told = await client.pair_jobs.models("line")
        assert [each["version"] for each in told["models"]] == [1, 1]
        assert told["figures"]["metrics"] == {"accuracy": 1.0}
        version = (await client.models.versions("line-shallow"))["versions"][0]
        assert [each["name"] for each in version["datasets"]] == ["mine", "public"]
        assert all(len(each["version"]) == 64 and each["edge"] == "edge-1" for each in version["datasets"])
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None
        async with aiomqtt.Client(broker.host, broker.mqtt_port) as camera:
            await camera.subscribe(REPLY)
            answer: dict[str, Any] = {}
            while answer.get("model") != version["weights"]["digest"]:  # until the edge has the version
                answer = await _ask(camera)
        assert answer["result"] == 1


def _job() -> dict[str, Any]:
    served = {"edgeWorker": {"scriptBootFile": "serve.py", "scriptArguments": ["edge"]},
              "cloudWorker": {"scriptBootFile": "serve.py", "scriptArguments": ["cloud"]}}  # fmt: skip
    spec = {
        "samples": {"name": "mine"}, "public": {"name": "public"}, "nodeName": "edge-1",
        "workerSpec": {"trainScriptBootFile": "train.py"}, "selection": {"count": 60},
        "edge": {"model": {"name": "line-shallow"}}, "cloud": {"model": {"name": "line-deep"}}, "service": served,
    }  # fmt: skip
    return {"kind": "PairTrainingJob", "metadata": {"name": "line"}, "spec": spec}


async def _ask(camera: aiomqtt.Client) -> dict[str, Any]:
    """Return the answer to a sample that both models are sure of; nothing where nobody answers yet."""
    body = {"input": [3.0, 3.0], "reply_to": REPLY}
    await camera.publish("heliograph/inference/line/request", json.dumps(body))
    try:
        async with asyncio.timeout(ANSWERED):
            found: dict[str, Any] = json.loads((await anext(camera.messages)).payload)  # type: ignore[arg-type]
            return found
    except TimeoutError:
        return {}
