"""An edge on its own: without a link, after a reboot without one, and with a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Assignment, ModelUpdate
from heliograph.bus.port import Port, Received
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

SCRIPT = """
import os, pathlib, time
import numpy as np
from heliograph import FederatedLearning
model = {"w": np.zeros(SIZE, np.float32)}
gate = pathlib.Path(__file__).with_name("closed-" + os.environ["HELIOGRAPH_EDGE"])
for _ in FederatedLearning(model, num_samples=1).rounds():
    while gate.exists():
        time.sleep(0.01)
    model["w"] += 1
"""


def _cluster(tmp_path: Path, edges: list[str], size: int = 3) -> LocalCluster:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(SCRIPT.replace("SIZE", str(size)))
    return LocalCluster(tmp_path / "cluster", edges, code=(code,), relayed=tuple(edges))


async def _create(client: AsyncClient, edges: list[str], rounds: int) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
    worker = {"trainScriptBootFile": "train.py"}
    spec = {
        "aggregationWorker": {"model": {"name": "line"}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in edges],
        "rounds": rounds,
        "roundDeadlineSeconds": 60,
    }
    await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "job"}, "spec": spec})


async def _ended(client: AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch("job"):  # noqa: B007 the last one counts
            pass
    return document["status"]


@asynccontextmanager
async def _on_node(cluster: LocalCluster, edge: str, topic: Any) -> AsyncIterator[AsyncIterator[Received[Any]]]:
    """Yield the messages of a topic on an edge's own broker."""
    broker = cluster.nodes[edge].broker
    assert broker is not None

    def fail(error: Refused) -> None:
        raise AssertionError(str(error))

    async with connect(broker.url("agent", "mqtt"), name="watcher") as bus:
        params = {"edge": edge} if "edge" in topic.params else {}
        async with Port(bus, World(), f"{edge}/watcher/1").subscribe(topic, fail, **params) as received:
            yield received


async def _update_of(received: AsyncIterator[Received[ModelUpdate]], round: int) -> None:
    async with asyncio.timeout(HANGS):
        async for each in received:
            if each.payload.round == round:
                return


async def _due_on_disk(cluster: LocalCluster, edge: str, round: int) -> None:
    """Wait until the edge's disk has the desired document of that round; no message announces it."""
    path = cluster.nodes[edge].directory / "state" / "journal.db"
    async with asyncio.timeout(HANGS):
        while True:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
                found = journal.execute("SELECT value FROM meta WHERE key = 'doc:desired'").fetchone()
            if found and any(task["round"] == round for task in decode(found[0]).data["tasks"]):
                return
            await asyncio.sleep(0.01)


async def test_an_edge_rebooted_without_a_link_trains_its_due_round_and_delivers_it_later(tmp_path: Path) -> None:
    gate = tmp_path / "code" / "closed-edge-1"
    async with (
        _cluster(tmp_path, ["edge-1"]) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
        _on_node(cluster, "edge-1", topics.MODEL_UPDATE) as updates,
        _on_node(cluster, "edge-1", topics.ASSIGNMENT) as assignments,
    ):
        relay = cluster.nodes["edge-1"].relay
        assert relay is not None
        gate.touch()
        await _create(client, ["edge-1"], 4)
        async with asyncio.timeout(HANGS):
            async for assigned in assignments:
                if assigned.payload.task.revision == 1:
                    break
        await _due_on_disk(cluster, "edge-1", 1)
        relay.cut("blackhole")
        await cluster.kill("edge-1")  # its worker ends with it
        await cluster.start_agent("edge-1")
        gate.unlink()
        await _update_of(updates, 1)  # trained from the document on disk
        await cluster.kill("edge-1")
        await cluster.start_agent("edge-1")
        await _update_of(updates, 1)  # the new worker trains the round again
        relay.restore()
        status = await _ended(client)
    assert status["phase"] == "Succeeded", status
    assert [(each["round"], each["counted"]) for each in status["rounds"]] == [(n, 1) for n in range(1, 5)]


async def test_generations_that_passed_while_offline_are_skipped(tmp_path: Path) -> None:
    gate = tmp_path / "code" / "closed-edge-1"
    async with (
        _cluster(tmp_path, ["edge-1", "edge-2"]) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
        _on_node(cluster, "edge-1", topics.MODEL_UPDATE) as updates,
        _on_node(cluster, "edge-2", topics.MODEL_UPDATE) as far_updates,
        _on_node(cluster, "edge-2", topics.ASSIGNMENT) as assignments,
    ):
        relay = cluster.nodes["edge-2"].relay
        assert relay is not None
        await _create(client, ["edge-1", "edge-2"], 30)
        await _update_of(far_updates, 1)
        relay.cut("reset")
        await _update_of(updates, 5)
        gate.touch()  # a round or two later the job waits for edge-1, and for the other edge after its return
        relay.restore()
        seen: list[int] = []
        async with asyncio.timeout(HANGS):
            async for each in assignments:
                payload: Assignment = each.payload
                if payload.task.is_due and payload.task.revision not in seen:
                    seen.append(payload.task.revision)
                if payload.task.revision >= 5:
                    break
                if seen and not payload.task.is_due:  # it is back, but not in the current round
                    break
        gate.unlink()
        status = await _ended(client)
        newest = {each["metadata"]["name"]: each["status"] for each in await client.edges.list()}
    assert not {3, 4} & set(seen), seen
    assert status["phase"] == "Succeeded", status
    assert status["rounds"][3]["edges"] == ["edge-1"]
    assert status["rounds"][-1]["edges"] == ["edge-1", "edge-2"]
    assert newest["edge-1"]["online"] and newest["edge-2"]["online"]


async def test_a_full_disk_is_reported_and_the_worker_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with (
        _cluster(tmp_path, ["edge-1"], 1_000_000) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
        _on_node(cluster, "edge-1", topics.WORKER) as workers,
    ):
        async with client.bus.subscribe(topics.STATUS.filter(resource="edges")) as changes:
            await _create(client, ["edge-1"], 3)
            async with asyncio.timeout(HANGS):
                await anext(workers)  # the worker runs; the limit below applies to its agent alone
                pid = cluster.pid("edge-1")
                before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
                said = ""
                while "model" not in said:
                    await anext(changes)
                    said = " ".join((await client.edges.get("edge-1"))["status"].get("workers", []))
            assert "job-edge-1 running: model" in said
            assert "File too large" in said
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        status = await _ended(client)
        assert status["phase"] == "Succeeded", status
        assert [each["counted"] for each in status["rounds"]] == [1, 1, 1]
        assert cluster.pid("edge-1") == pid
