"""Record the golden traces anew (``make traces``): a small job of each kind, each with a fault.

    python -m heliograph.simulations.check.golden tests/traces
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import HardSample
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.simulations.check.golden_loop import learning
from heliograph.simulations.check.golden_recording import SETTLED, copy_included, recorded, write

_FLAKY = """
name: flaky
description: Four edges whose links go down at random; rounds go on without offline edges.
seed: 7
duration: 1h
edges: [{number: 4, speed: [0.3, 1]}]
data: {set: digits, partition: "dirichlet:1", seconds_per_sample: 20ms}
links:
  latency: [30ms, 150ms]
  bandwidth: [50 kB/s, 500 kB/s]
  loss: 0.02
  outages: [{mean_up: 40s, mean_down: 15s}]
jobs:
  - {name: digits, rounds: 6, participants: all, quorum: 3, deadline: 30s,
     training: {learning_rate: 0.3, local_epochs: 1, hidden: 8}}
"""
_PAIR = """
import os
import sys
from pathlib import Path
import numpy as np
from heliograph import PairTraining, dataset
data = np.load(dataset())
shallow, deep = ({"w": np.zeros((width, 2), np.float32)} for width in (1, 2))
pair = PairTraining(shallow, deep, outputs="logits",
                    predict=lambda model, x: x[:, : len(model["w"])] @ model["w"])
for part in pair.parts(data["x"], data["y"], data["x"][::-1] + np.float32(0.5)):
    if part.side == "edge" and not Path("crashed").exists():
        Path("crashed").touch()
        sys.stdout.flush()
        os._exit(9)
    part.model["w"][:, 1] += 1
"""
_TRAIN = """
import time
import numpy as np
from heliograph import FederatedLearning, dataset
data = np.load(dataset())
weights = {"w": np.zeros(3, np.float32)}
for r in FederatedLearning(weights, num_samples=len(data["x"])).rounds(local=1):
    time.sleep(0.3)
    gradient = (data["x"] * (data["x"] @ weights["w"] - data["y"])[:, None]).mean(axis=0)
    weights["w"] -= np.float32(0.5) * gradient
"""
_MODEL = """
import numpy as np
class Line:
    def __init__(self, scores):
        self.w, self.scores = np.zeros(2), scores
    def get(self):
        return {"w": self.w.copy()}
    def set(self, arrays):
        self.w[:] = arrays["w"]
    def __call__(self, batch):
        return [self.scores(x) + self.w for x in batch]
"""
_EDGE = _MODEL + """
from heliograph import JointInference
JointInference("line", edge=Line(lambda x: np.array([0.5, 0.5]) if x.flat[0] else np.array([0.1, 0.9]))).serve()
"""
_CLOUD = _MODEL + """
from heliograph import BigModel
BigModel("line", Line(lambda x: np.array([0.8, 0.2]))).serve()
"""
_ANSWERS = 5



def flaky(path: Path) -> None:
    """Record a federated job in virtual time, over links that go up and down."""
    from heliograph.simulations.scenario.play import RunRequest, play_virtual
    from heliograph.simulations.scenario.scenario_files import read_scenario

    with TemporaryDirectory() as directory:
        document = Path(directory) / "flaky.yaml"
        document.write_text(_FLAKY)
        whole = Path(directory) / "whole.mcap"
        play_virtual(RunRequest(read_scenario(document), 7, whole))
        copy_included(whole, path)


async def federated(path: Path) -> None:
    """Record a federated job on real processes; the link of one of two edges is cut during it."""
    import numpy as np

    with TemporaryDirectory(prefix="heliograph-") as name:
        directory = Path(name)
        rng = np.random.default_rng(1)
        datasets = {}
        for edge, samples in (("edge-1", 50), ("edge-2", 150), ("cloud", 40)):
            x = rng.normal(size=(samples, 3)).astype(np.float32)
            datasets[edge] = {"data": directory / f"{edge}.npz"}
            np.savez(datasets[edge]["data"], x=x, y=x @ np.array([1.0, -2.0, 0.5], np.float32))
        write(directory / "code" / "train.py", _TRAIN)
        cluster = LocalCluster(directory / "cluster", ["edge-1", "edge-2"], datasets=datasets,
                               code=(directory / "code",), relayed=("edge-2",))  # fmt: skip
        async with cluster, AsyncClient(cluster.server) as client, recorded(cluster, directory / "whole.mcap"):
            await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
            worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
            workers = [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in ("edge-1", "edge-2")]
            spec = {"aggregationWorker": {"model": {"name": "line"}}, "trainingWorkers": workers, "rounds": 12,
                    "roundDeadlineSeconds": 20}  # fmt: skip
            await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "line"}, "spec": spec})
            relay = cluster.nodes["edge-2"].relay
            assert relay is not None
            async for job in client.jobs.watch("line"):
                if job["status"]["round"] == 3 and relay.state == "up":
                    relay.cut()
                elif job["status"]["round"] >= 6 and relay.state != "up":
                    relay.restore()
        copy_included(directory / "whole.mcap", path)


async def joint(path: Path) -> None:
    """Record joint inference on real processes: answers by the edge, by the cloud, and without the cloud."""
    import aiomqtt

    with TemporaryDirectory(prefix="heliograph-") as name:
        directory = Path(name)
        write(directory / "code" / "edge.py", _EDGE)
        write(directory / "code" / "cloud.py", _CLOUD)
        cluster = LocalCluster(directory / "cluster", ["edge-1"], code=(directory / "code",), relayed=("edge-1",))
        async with cluster, AsyncClient(cluster.server) as client, recorded(cluster, directory / "whole.mcap"):
            for model in ("shallow", "deep"):
                await client.models.create({"kind": "Model", "metadata": {"name": model}})
            await client.resources("services").create({
                "kind": "JointInferenceService", "metadata": {"name": "line"},
                "spec": {
                    "edgeWorker": {"model": {"name": "shallow"}, "scriptBootFile": "edge.py"},
                    "cloudWorker": {"model": {"name": "deep"}, "scriptBootFile": "cloud.py"},
                    "hardSampleRule": {"name": "threshold", "parameters": [{"key": "value", "value": 0.7}]},
                    "deadlineSeconds": 0.5, "hardSamplesTo": "later",
                },
            })  # fmt: skip
            node = cluster.nodes["edge-1"]
            assert node.broker is not None and node.relay is not None
            async with aiomqtt.Client("127.0.0.1", node.broker.mqtt_port) as device:
                await device.subscribe("heliograph/reply/device/+")
                await _until_answered(device, 1.0, "cloud")
                await _request(device, 0.0, _ANSWERS)
                await _request(device, 1.0, _ANSWERS)
                await device.publish("heliograph/event/telemetry/edge-1/meter", json.dumps({"celsius": 21.5}))
                node.relay.cut()
                await World().sleep(4)
                await _request(device, 1.0, _ANSWERS)
                node.relay.restore()
                await _until_answered(device, 1.0, "cloud")
            await World().sleep(SETTLED)
            await client.resources("services").stop("line")
        copy_included(directory / "whole.mcap", path)


async def labels(path: Path) -> None:
    """Record a label queue on real processes: samples become tasks, one of them comes twice, and one is damaged. Nobody
    labels them; in the trace of the whole loop somebody does."""
    samples = {text: HardSample(job="line", edge="edge-1", sample=text, text=text) for text in ("one", "two", "three")}
    bad = WeightsRef(digest="0" * 64, size=3, inline=b"bad")
    damaged = HardSample(job="line", edge="edge-1", sample="damaged", data=bad)
    with TemporaryDirectory(prefix="heliograph-") as name:
        directory, world = Path(name), World()
        cluster = LocalCluster(directory / "cluster", ["edge-1"])
        async with (
            cluster,
            AsyncClient(cluster.server, leader_timeout=60) as client,
            recorded(cluster, directory / "whole.mcap"),
            connect(cluster.agent_url("edge-1"), world=world, name="device", inbox=inbox_of("edge-1")) as bus,
        ):
            await bus.link.wait_up(10)
            port = Port(bus, world, "edge-1/worker/life")
            await cluster.kill("coordinator")  # the next one shows what there is, which the recording needs
            await cluster.start_coordinator()
            spec = {"labelSchema": {"classes": ["cat", "dog"]}, "overlap": 2}
            await client.labels.create({"kind": "LabelQueue", "metadata": {"name": "line"}, "spec": spec})
            for sample in (samples["one"], samples["two"], damaged, samples["one"], samples["three"]):
                await port.publish(topics.HARD_SAMPLE, sample, job="line", edge="edge-1")
                await world.sleep(SETTLED)
            await client.labels.update({"kind": "LabelQueue", "metadata": {"name": "line"},
                                        "spec": {**spec, "overlap": 1}})  # fmt: skip
        copy_included(directory / "whole.mcap", path)


async def pairs(path: Path) -> None:
    """Record a pair training job on real processes: it is created before its node has the data, and its worker is
    killed while it trains the shallow model."""
    import numpy as np

    with TemporaryDirectory(prefix="heliograph-") as name:
        directory, world = Path(name), World()
        write(directory / "code" / "pair.py", _PAIR)
        x = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
        np.savez(directory / "mine.npz", x=x, y=(x.sum(1) > 0).astype(np.int64))
        cluster = LocalCluster(directory / "cluster", ["edge-1"], code=(directory / "code",))
        async with (
            cluster,
            AsyncClient(cluster.server, leader_timeout=60) as client,
            recorded(cluster, directory / "whole.mcap"),
        ):
            await cluster.kill("coordinator")  # the next one shows what there is, which the recording needs
            await cluster.start_coordinator()
            for model in ("shallow", "deep"):
                await client.models.create({"kind": "Model", "metadata": {"name": model}})
            await client.pair_jobs.create({
                "kind": "PairTrainingJob", "metadata": {"name": "line"},
                "spec": {"samples": {"name": "mine"}, "nodeName": "edge-1",
                         "workerSpec": {"trainScriptBootFile": "pair.py"}, "selection": {"count": 30},
                         "edge": {"model": {"name": "shallow"}}, "cloud": {"model": {"name": "deep"}}},
            })  # fmt: skip
            await world.sleep(SETTLED)
            await client.push("mine", directory / "mine.npz", edge="edge-1")
            async for job in client.pair_jobs.watch("line"):
                if job["status"]["phase"] in ("Succeeded", "Failed"):
                    break
        copy_included(directory / "whole.mcap", path)


async def _request(device: Any, value: float, times: int) -> dict[str, Any]:
    """Send ``times`` requests one by one, and return the last answer."""
    answer: dict[str, Any] = {}
    for number in range(times):
        document = {"input": [[value, 1.0], [2.0, 3.0]], "reply_to": f"heliograph/reply/device/{number}"}
        await device.publish("heliograph/inference/line/request", json.dumps(document))
        async with asyncio.timeout(5):
            answer = json.loads((await anext(device.messages)).payload)
    return answer


async def _until_answered(device: Any, value: float, by: str) -> None:
    while True:
        try:
            if (await _request(device, value, 1)).get("by") == by:
                return
        except TimeoutError:
            continue
        await World().sleep(0.2)


KINDS: dict[str, Callable[[Path], Awaitable[None] | None]] = {
    "flaky": flaky, "federated": federated, "joint": joint, "labels": labels, "learning": learning,
    "pairs": pairs,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the golden traces anew.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="default: all")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds or KINDS:
        path = options.directory / f"{kind}.mcap"
        recording = KINDS[kind](path)
        if recording is not None:
            asyncio.run(_awaited(recording))
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


async def _awaited(recording: Awaitable[None]) -> None:
    await recording


if __name__ == "__main__":
    sys.exit(main())
