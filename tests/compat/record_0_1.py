"""Record the stored data of heliograph 0.1. Run it in a checkout of 0.1 with the interpreter of its environment.

    python record_0_1.py CHECKOUT DIRECTORY

A cluster of two edges trains one job. The files are the resources and close records from key-value, one event of each
kind in both encodings, and the state directory of an agent with an update that waits for its upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus import topics
from heliograph.bus.connect import connect
from heliograph.bus.event import decode, encode
from heliograph.bus.payloads import ModelUpdate
from heliograph.bus.permissions import upload_bucket
from heliograph.bus.port import Port
from heliograph.bus.resources.base import WeightsRef
from heliograph.bus.transport import Bus
from heliograph.bus.world import World
from heliograph.client import AsyncClient
from heliograph.edge_agent.journal import Entry, Journal
from heliograph.simulations.cluster import LocalCluster

ANSWER = np.array([1.0, -2.0, 0.5], np.float32)
JOB, EDGES = "line", ("edge-1", "edge-2")


async def record(checkout: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        datasets = {"edge-1": {"data": data(work, 1)}, "edge-2": {"data": data(work, 2)},
                    "cloud": {"held-out": data(work, 3)}}  # fmt: skip
        code = checkout / "tests" / "data" / "code"
        cluster = LocalCluster(work / "cluster", ["edge-1", "edge-2"], datasets=datasets, code=(code,))
        async with cluster, AsyncClient(cluster.server) as client:
            async with connect(cluster.broker.url("coordinator"), name="recorder") as bus:
                desired: dict[str, bytes] = {}
                async with bus.subscribe(topics.TASK.filter()) as messages:
                    following = asyncio.create_task(follow(messages, desired))
                    await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
                    await client.jobs.create(job())
                    async for _ in client.jobs.watch(JOB):
                        pass
                    following.cancel()
                await keep_events(bus, desired, target / "events")
                buckets = {}
                for name in ("resources", "rounds", "coordinator", "inference"):
                    entries = await (await bus.kv(name)).entries()
                    buckets[name] = {each.key: each.value.decode() for each in entries if each.key != "leader"}
                (target / "buckets.json").write_text(json.dumps(buckets, indent=1, sort_keys=True) + "\n")
        await keep_state(work, target, desired["event/task/edge-1"])


def data(directory: Path, seed: int) -> Path:
    x = np.random.default_rng(seed).normal(size=(50, 3)).astype(np.float32)
    path = directory / f"{seed}.npz"
    np.savez(path, x=x, y=x @ ANSWER)
    return path


def job() -> dict[str, Any]:
    worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
    return {
        "apiVersion": "edgeai.io/v1alpha1", "kind": "FederatedTask", "metadata": {"name": JOB},
        "spec": {
            "aggregationWorker": {"model": {"name": "line"}},
            "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
            "evaluationWorker": {"dataset": {"name": "held-out"}}, "rounds": 2, "participants": "all",
        },
    }  # fmt: skip


async def follow(messages: AsyncIterator[Any], desired: dict[str, bytes]) -> None:
    """Keep the last desired document of each node that trains or aggregates a round."""
    async for message in messages:
        tasks = decode(message.body).data["tasks"]
        if any(each["active"] and each["round"] and each["role"] != "evaluate" for each in tasks):
            desired[message.topic] = message.body


async def keep_events(bus: Bus, desired: dict[str, bytes], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    bodies = {"task-edge": desired["event/task/edge-1"], "task-cloud": desired["event/task/cloud"]}
    for name, pattern in (("report", "event/report/edge-1"), ("model-update", f"event/model-update/{JOB}/edge-1"),
                          ("aggregation", f"event/aggregation/{JOB}"), ("evaluation", f"event/evaluation/{JOB}")):
        async with bus.consume(pattern, start=1) as messages:
            async for message in messages:
                bodies[name] = message.body
                if name in ("report", "evaluation") or decode(message.body).data["round"] == 2:
                    break
    for name, body in bodies.items():
        (directory / f"{name}.msgpack").write_bytes(body)
        (directory / f"{name}.json").write_bytes(encode(decode(body), "json") + b"\n")


async def keep_state(work: Path, target: Path, desired: bytes) -> None:
    """Write the state of an agent that lost its link before it could upload an update."""
    state = target / "state"
    shutil.rmtree(state, ignore_errors=True)
    weights = bytes(1000)
    digest = hashlib.sha256(weights).hexdigest()
    outbox = state / "workers" / "line-edge-1" / "outbox"
    outbox.mkdir(parents=True)
    (outbox / digest).write_bytes(weights)
    journal = Journal(state / "journal.db", "edge-1", World())
    port = Port(connect("memory://x"), World(), "edge-1/line-edge-1/0a0b")
    address = topics.MODEL_UPDATE.at(job=JOB, edge="edge-1")
    uid = decode(desired).data["tasks"][0]["job_uid"]
    update = ModelUpdate(job=JOB, job_uid=uid, round=3, edge="edge-1", num_samples=50,
                         weights=WeightsRef(digest=digest, size=len(weights), bucket=upload_bucket("edge-1")))
    event = port.event(topics.MODEL_UPDATE, update, address, sequence=1)
    await journal.append(Entry(address, encode(event), topics.MODEL_UPDATE.lane, "line-edge-1", "0a0b", 1))
    await journal.save("desired", desired)
    journal.close()


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]), Path(sys.argv[2])))
