"""Brokers killed and restarted under a running job: acknowledged events survive, every client reconnects, and no
consumer is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.nats.bus import NatsBus
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Unreachable
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from heliograph.local.nats_server import SYSTEM_USER
from tests.patience import HANGS

EDGES = ["edge-1", "edge-2"]
LOST = "the lease was not renewed in time"


async def start_job(client: AsyncClient) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "count"}})
    worker = {"trainScriptBootFile": "gated.py"}
    spec = {
        "aggregationWorker": {"model": {"name": "count"}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
        "rounds": 2,
    }
    await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "gated"}, "spec": spec})


async def answers(client: AsyncClient) -> bool:
    try:
        await client.jobs.get("gated")
    except Unreachable:
        return False
    return True


async def check_ended(client: AsyncClient) -> None:
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch("gated"):
            status = document["status"]
    assert status["phase"] == "Succeeded", status
    assert [each["counted"] for each in status["rounds"]] == [2, 2]


@pytest.mark.long
async def test_everyone_is_back_after_the_clouds_broker_was_killed(tmp_path: Path, gates: Any) -> None:
    script = gates()
    acknowledged = Acknowledged()
    async with (
        LocalCluster(tmp_path / "cluster", EDGES, code=(script.code,), log=tmp_path / "log.txt") as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
        connect(cluster.broker.url(SYSTEM_USER), name="watching") as system,
        connect(cluster.broker.url(COORDINATOR), name="watching") as bus,
    ):
        await bus.link.wait_up(HANGS)
        await start_job(client)
        script.open("edge-1-initial")
        for round in (1, 2):
            gated = [f"{edge}-{round}" for edge in EDGES]
            for edge, gate in zip(EDGES, gated, strict=True):
                await cluster.wait_for_line(edge, f"at gate {gate}")
            before = await connections(system)
            agents = {f"agent-{name}" for name in cluster.nodes}
            assert {COORDINATOR, "presence", "gated-aggregate", *agents} <= set(before)
            consumers = await consumers_of(bus)
            publishing = asyncio.create_task(publish_for_ever(bus, round, acknowledged))
            await acknowledged.reach(10 * round)
            await cluster.broker.kill()
            await bus.link.wait_down()
            if round == 2:  # wait until the coordinator has lost its lease
                await cluster.wait_for_line(COORDINATOR, LOST)
            await cluster.broker.start()
            async with asyncio.timeout(HANGS):
                while (await connections(system)) != before:
                    pass
            async with asyncio.timeout(HANGS):
                while (await consumers_of(bus)).total() != consumers.total():
                    pass
            async with asyncio.timeout(HANGS):
                while not await answers(client):
                    pass
            publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publishing
            script.open(*gated)
        await check_ended(client)
        kept = set()
        newest = await cast(NatsBus, bus).last_sequence("TELEMETRY")
        async with bus.consume(topics.TELEMETRY.filter()) as messages:
            async for message in messages:
                kept.add(message.body)
                if message.sequence == newest:
                    break
        assert kept >= acknowledged.bodies
        assert "is offline" not in (tmp_path / "log.txt").read_text()  # no round was closed without an edge


class Acknowledged:
    """The bodies of the events that the broker has acknowledged."""

    def __init__(self) -> None:
        self.bodies: set[bytes] = set()
        self._added = asyncio.Event()

    def add(self, body: bytes) -> None:
        self.bodies.add(body)
        self._added.set()

    async def reach(self, number: int) -> None:
        """Wait until ``number`` events are acknowledged."""
        async with asyncio.timeout(HANGS):
            while len(self.bodies) < number:
                self._added.clear()
                await self._added.wait()


async def publish_for_ever(bus: Any, round: int, acknowledged: Acknowledged) -> None:
    """Publish events, ten at a time, and note the acknowledged ones."""

    async def one(number: int) -> None:
        body = json.dumps({"round": round, "number": number}).encode()
        with contextlib.suppress(HeliographError):
            await bus.publish(topics.TELEMETRY.at(edge="edge-1", device="d"), body)
            acknowledged.add(body)

    number = 0
    while True:
        await bus.link.wait_up()
        await asyncio.gather(*(one(number + each) for each in range(10)))
        number += 10


async def connections(system: Any) -> Counter[str]:
    """Return the number of connections to the cloud's broker by name, or by login for MQTT."""
    await system.link.wait_up()
    try:
        answer = await system.connection.request("$SYS.REQ.SERVER.PING.CONNZ", json.dumps({"auth": True}).encode())
    except HeliographError:
        return Counter()
    found = json.loads(answer.data)["data"]["connections"]
    return Counter(each.get("name") or each.get("authorized_user", "") for each in found if "watching" not in str(each))


async def consumers_of(bus: Any) -> Counter[str]:
    """Return the number of consumers of each stream except those of the broker's MQTT side."""
    await bus.link.wait_up()
    found: Counter[str] = Counter()
    with contextlib.suppress(HeliographError):
        names = json.loads((await bus.connection.request("$JS.API.STREAM.NAMES")).data)["streams"]
        for name in (name for name in names if not name.startswith("$MQTT")):
            answer = json.loads((await bus.connection.request(f"$JS.API.CONSUMER.LIST.{name}", b"{}")).data)
            found[name] += answer["total"]
    return +found


@pytest.mark.long
@pytest.mark.mosquitto
@pytest.mark.parametrize("kind", ["nats-server", "mosquitto"])
async def test_worker_and_agent_are_back_after_their_nodes_broker_was_killed(
    tmp_path: Path, gates: Any, kind: str, mosquitto: Callable[[], Awaitable[Any]]
) -> None:
    script = gates()
    external = {"edge-1": (await mosquitto())} if kind == "mosquitto" else {}
    urls = {edge: broker.url() for edge, broker in external.items()}
    cluster = LocalCluster(tmp_path / "cluster", EDGES, code=(script.code,), edge_brokers=urls)
    async with contextlib.AsyncExitStack() as stack, cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        node: Any = external.get("edge-1") or cluster.nodes["edge-1"].broker
        device = await stack.enter_async_context(connect(node.url(scheme="mqtt")))
        await device.link.wait_up(HANGS)
        await start_job(client)
        script.open("edge-1-initial")
        for round in (1, 2):
            gated = [f"{edge}-{round}" for edge in EDGES]
            for edge, gate in zip(EDGES, gated, strict=True):
                await cluster.wait_for_line(edge, f"at gate {gate}")
            async with client.bus.subscribe(topics.MODEL_UPDATE.at(job="gated", edge="edge-1")) as updates:
                if round == 1:  # the broker may end while the update is on its way
                    script.open(*gated)
                await node.kill()
                if round == 2:  # the update is sent while the broker is away
                    script.open(*gated)
                    await device.link.wait_down()
                await node.start()
                await device.link.wait_up(HANGS)
                async with asyncio.timeout(HANGS):
                    await anext(updates)
        await check_ended(client)
