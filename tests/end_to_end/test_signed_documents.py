"""Whoever can publish a desired document, and has not the coordinator's key, steers no edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Desired, Generation
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

DATA = Path(__file__).parent.parent / "data"


async def _steered(client: AsyncClient, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the edge's condition ``Steered`` is as wanted."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource="edges")) as changes:
        while True:
            status = (await client.edges.get("edge-1"))["status"]
            found = [each for each in status.get("conditions", []) if each["type"] == "Steered"]
            if found and holds(found[0]):
                return
            await anext(changes)


async def test_a_stolen_login_of_the_coordinator_steers_no_edge(tmp_path: Path, regression: Any, task: Any) -> None:
    datasets = {"edge-1": {"data": regression("one", 50, 1)}}
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], datasets=datasets, code=(DATA / "code",))
    world = World()
    async with (
        cluster, AsyncClient(cluster.server, timeout=HANGS) as client,
        connect(cluster.broker.url("coordinator"), world=world, name="thief") as bus,
    ):  # fmt: skip
        await bus.link.wait_up(HANGS)
        thief = Port(bus, world, "cloud/coordinator/thief")
        forged = Desired(edge="edge-1", generation=Generation(epoch=1 << 40, n=1))
        for signer in (None, Ed25519Signer.made(world)):
            await thief.publish(topics.TASK, forged, edge="edge-1", signer=signer)
            await cluster.wait_for_line("edge-1", "desired document refused, the last one holds", HANGS)
            await _steered(client, lambda found: found["status"] == "False" and found["reason"] == "DocumentRefused")
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await client.jobs.create(task("train", ["edge-1"]))
        document: dict[str, Any] = {}
        async with asyncio.timeout(HANGS):
            async for document in client.jobs.watch("train"):  # noqa: B007 the last one counts
                pass
        assert document["status"]["phase"] == "Succeeded", document["status"]
        await _steered(client, lambda found: found["status"] == "True")
