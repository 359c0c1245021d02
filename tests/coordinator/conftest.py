"""A cloud of real processes (broker, coordinator, agent ``cloud``, its workers); the test plays the edges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest_asyncio

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.payloads import DatasetTask, Desired, Generation, ModelUpdate, Offer, Report
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.resources import DatasetIndex
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EDGES = ("edge-1", "edge-2", "edge-3")
SAMPLES = 100
USERS = {"foreign": "of-foreign", "another": "of-another"}
"""Users of the door beside the operator, with their tokens."""
PARTICIPANTS = {name: f"of-{name}" for name in ("phone", "tablet", "watch", "scanner", "camera")}
"""Participants that train by themselves, with their tokens."""
BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(3, np.float32)}


@dataclass
class PlayedEdge:
    """An edge's agent, played by the test over a real connection: presence, report and updates are real messages."""

    name: str
    port: Port
    tasks: asyncio.Queue[Desired] = field(default_factory=asyncio.Queue)
    following: asyncio.Task[None] | None = None

    async def report(self, samples: int = SAMPLES, offers: Offer | None = None, **fields: Any) -> None:
        if offers is not None:
            await self.port.publish(topics.OFFERS, offers, edge=self.name)
        index = DatasetIndex(name="data", samples=samples, columns={"x": "float32[3]"}, digest="0" * 64, format="npz")
        report = Report(edge=self.name, observed=Generation(), datasets=[index], **fields)
        await self.port.publish(topics.REPORT, report, edge=self.name)

    async def task(self, job: str, round: int) -> DatasetTask:
        """Return this edge's task of a round once the coordinator asks for it."""
        async with asyncio.timeout(HANGS):
            while True:
                desired = await self.tasks.get()
                for task in desired.tasks:
                    if isinstance(task, DatasetTask) and (task.job, task.round, task.active) == (job, round, True):
                        return task

    def update(self, task: DatasetTask, arrays: dict[str, Any] | None = None, **changes: Any) -> ModelUpdate:
        """Return a valid update of that task, except for ``changes``."""
        weights = tensors.write(BASE if arrays is None else arrays, Path("/nonexistent"))
        assert task.model is not None
        fields = {
            "job": task.job,
            "job_uid": task.job_uid,
            "round": task.round,
            "edge": self.name,
            "base": task.model.digest,
            "weights": weights,
            "num_samples": 10,
        }
        return ModelUpdate.model_construct(**(fields | changes))

    async def send(self, update: ModelUpdate, job: str = "") -> None:
        await self.port.publish(topics.MODEL_UPDATE, update, job=job or update.job, edge=self.name)

    async def follow(self) -> None:
        async with self.port.subscribe(topics.TASK, lambda error: None, edge=self.name) as received:
            async for each in received:
                self.tasks.put_nowait(each.payload)


@dataclass
class Cloud:
    cluster: LocalCluster
    client: AsyncClient
    edges: dict[str, PlayedEdge]
    reports: Iterator[int] = field(default_factory=lambda: count(1))

    async def job(self, name: str, edges: tuple[str, ...] = EDGES[:2], **spec: Any) -> dict[str, Any]:
        """Create a model with ``BASE`` as its weights, and a task on those edges."""
        weights = tensors.write(BASE, Path("/nonexistent"))
        await self.client.models.create(
            {
                "kind": "Model",
                "metadata": {"name": f"model-{name}"},
                "spec": {"weights": weights.model_dump(mode="json")},
            }
        )
        worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
        task = {
            "kind": "FederatedTask",
            "metadata": {"name": name},
            "spec": {
                "aggregationWorker": {"model": {"name": f"model-{name}"}},
                "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in edges],
                "rounds": 1,
            }
            | spec,
        }
        return await self.client.jobs.create(task)

    async def reported(self, name: str, **fields: Any) -> None:
        """Report an edge's state anew, and wait until the coordinator acts on it."""
        version = f"0.2.{next(self.reports)}"
        async with self.client.bus.subscribe(topics.STATUS.at(resource="edges", name=name)) as changes:
            await self.edges[name].report(**fields, version=version)
            async with asyncio.timeout(HANGS):
                while (await self.client.edges.get(name))["status"].get("version") != version:
                    await anext(changes)

    async def ended(self, name: str) -> dict[str, Any]:
        """Return the job's status once it has ended."""
        document: dict[str, Any] = {}
        async with asyncio.timeout(HANGS):
            async for document in self.client.jobs.watch(name):  # noqa: B007 the last one counts
                pass
        status: dict[str, Any] = document["status"]
        return status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(tmp_path_factory: Any) -> AsyncIterator[Cloud]:
    """Yield a started cloud with three played edges that are online."""
    cluster = LocalCluster(tmp_path_factory.mktemp("cloud"), list(EDGES), logins=USERS, participants=PARTICIPANTS)
    buses: list[Bus] = []
    try:
        await cluster.start_broker()
        await cluster.start_coordinator()
        await cluster.start_agent("cloud")
        await cluster.wait_ready()
        world = World()
        edges = {}
        for name in EDGES:
            bus = connect(cluster.agent_url(name), name=f"agent-{name}", inbox=inbox_of(name))
            buses.append(bus)
            await bus.open()
            await bus.link.wait_up(HANGS)
            edge = PlayedEdge(name, Port(bus, world, f"{name}/agent/{world.new_id()}"))
            edge.following = asyncio.create_task(edge.follow())
            await edge.report()
            edges[name] = edge
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            async with asyncio.timeout(HANGS):
                for name in EDGES:
                    await _until_online(client, name)
                async with client.bus.subscribe(topics.STATUS.filter(resource="algorithms")) as changes:
                    while not await client.algorithms.list():
                        await anext(changes)
            yield Cloud(cluster, client, edges)
    finally:
        for played in locals().get("edges", {}).values():
            played.following.cancel()
        for bus in buses:
            await bus.close()
        await cluster.stop()


async def _until_online(client: AsyncClient, name: str) -> None:
    async with client.bus.subscribe(topics.STATUS.at(resource="edges", name=name)) as changes:
        while True:
            found = [each for each in await client.edges.list() if each["metadata"]["name"] == name]
            if found and found[0]["status"].get("online") and found[0]["status"].get("datasets"):
                return
            await anext(changes)
