"""The disk under a cluster, or under a cloud's nats-server, fills up: each part says so once, nothing is damaged, and
with room everything goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.store_health import closed_streams
from heliograph.client import AsyncClient
from heliograph.coordinator.store_health import StoreHealth
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.disk_room import MB
from heliograph.local.nats_server import Broker, User
from heliograph.local.restarts import process_of
from tests.fillable import Disk, fillable_disk
from tests.patience import HANGS

EDGE = "edge-1"
DATABASES = ("journal.db", "datasets.db")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with fillable_disk(tmp_path / "disk", 400 * MB) as made:
        yield made


class Meter:
    """A device that numbers its readings from 1."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.sent = 0

    async def send(self, count: int) -> None:
        """Send readings and return once the last of them is in the cloud."""
        node = self._cluster.nodes[EDGE].broker
        assert node is not None
        async with connect(node.url("", "mqtt")) as device, asyncio.timeout(HANGS):
            await device.link.wait_up(HANGS)
            heard = asyncio.create_task(self._probe_arrives())
            while not heard.done():  # after a broker's start the agent may not have subscribed again
                with contextlib.suppress(HeliographError):
                    await device.publish(topics.TELEMETRY.at(edge=EDGE, device="probe"), json.dumps({"n": 0}).encode())
                await asyncio.wait({heard}, timeout=0.2)
            await heard
            for _ in range(count):
                self.sent += 1
                reading = json.dumps({"n": self.sent}).encode()
                await device.publish(topics.TELEMETRY.at(edge=EDGE, device="meter"), reading)
        async with asyncio.timeout(HANGS), connect(self._cluster.server) as cloud:
            async with cloud.consume(topics.TELEMETRY.filter(), start=1) as events:
                async for each in events:
                    if decode(each.body).data["n"] == self.sent:
                        return

    async def _probe_arrives(self) -> None:
        async with connect(self._cluster.server) as cloud:
            await cloud.link.wait_up(HANGS)
            newest = await cloud.last_sequence("TELEMETRY")
            async with cloud.consume(topics.TELEMETRY.filter(), start=newest + 1) as events:
                await anext(events)

    async def stored(self) -> Counter[int]:
        """Return how often each reading is in the cloud."""
        found: Counter[int] = Counter()
        async with connect(self._cluster.server) as cloud:
            await cloud.link.wait_up(HANGS)
            if last := await cloud.last_sequence("TELEMETRY"):
                async with cloud.consume(topics.TELEMETRY.filter(), start=1) as events:
                    async for each in events:
                        if number := decode(each.body).data["n"]:
                            found[number] += 1
                        if each.sequence >= last:
                            break
        return found


def undamaged(directory: Path) -> None:
    """Check each file that a part has written."""
    assert not list(directory.rglob("*damaged*"))
    for file in directory.rglob("*"):
        if file.name in DATABASES:
            with closing(sqlite3.connect(file)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), file
        elif file.suffix == ".json":
            json.loads(file.read_text())


@pytest.mark.long
async def test_a_cluster_whose_disk_filled_goes_on_by_itself_and_starts_again(disk: Disk) -> None:
    state, said = disk.path / "cluster", list[str]()
    noted = asyncio.Event()

    def report(line: str) -> None:
        said.append(line)
        noted.set()

    async def reported(words: str) -> None:
        async with asyncio.timeout(HANGS):
            while not any(words in line for line in said):
                noted.clear()
                await noted.wait()

    async with LocalCluster(state, [EDGE], supervise=report) as cluster:
        meter = Meter(cluster)
        await meter.send(100)
        disk.fill()
        await reported("make room, or nothing is stored")
        await cluster.wait_for_line(EDGE, "no answer in time", HANGS)  # what it says is stored nowhere
        disk.free()
        await reported("has room again")
        async with asyncio.timeout(HANGS), AsyncClient(cluster.server, timeout=HANGS, leader_timeout=HANGS) as client:
            await client.edges.list()
            await meter.send(100)
        found = await meter.stored()
        assert (len(found), sum(found.values())) == (200, 200)
        assert [cluster.exit_code(name) for name in ("coordinator", "cloud", EDGE)] == [None] * 3
        for name in (EDGE, "cloud"):
            lines = Counter(line for line in cluster.lines(name) if "warning" in line)
            assert max(lines.values()) <= 2, lines
        disk.fill()
        brokers = (cluster.broker, *cluster.node_brokers.values())
        for pid in [*map(cluster.pid, ("coordinator", "cloud", EDGE)), *(process_of(each).pid for each in brokers)]:
            os.kill(pid, signal.SIGKILL)
    disk.fill()
    with pytest.raises(HeliographError, match=r"MB free, and a cluster of 1 edges needs 96 MB\. Make room"):
        await LocalCluster(state, [EDGE]).start()
    disk.free()
    async with LocalCluster(state, [EDGE]) as cluster:
        again = Meter(cluster)
        again.sent = meter.sent
        await again.send(100)
        found = await again.stored()
        assert (len(found), sum(found.values())) == (300, 300)
    undamaged(state)


async def test_a_server_that_stores_nothing_any_more_is_named_with_what_mends_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-server does not go on by itself, and answers nothing to who publishes."""
    broker = Broker(disk.path, "cloud", (User("coordinator", "secret", "coordinator"),), store_bytes=100 * MB)
    await broker.start()
    said: asyncio.Queue[str] = asyncio.Queue()
    again = asyncio.Event()

    async def sleep(_: float) -> None:
        await again.wait()
        again.clear()

    async def next_line() -> str:
        again.set()
        async with asyncio.timeout(HANGS):
            return await said.get()

    try:
        async with connect(broker.url("coordinator")) as bus, connect(broker.url("system")) as system:
            await bus.link.wait_up(HANGS)
            await system.link.wait_up(HANGS)
            assert isinstance(system, NatsBus)
            store = await bus.kv("coordinator")
            await store.put("leader", b"a")
            assert await closed_streams(system.connection) == {}
            watching = asyncio.create_task(StoreHealth(system, World(sleep=sleep), said.put_nowait).run())
            while not await closed_streams(system.connection):
                disk.fill()
                writing = asyncio.create_task(store.put("leader", bytes(4096)))
                await asyncio.wait({writing}, timeout=0.2)
                await cancel_and_wait(writing)
            line = await next_line()
            assert line.startswith(f"warning: server {broker.name} stores nothing any more, stream KV_coordinator: ")
            assert "no space left on device. Make room on the disk of its store, then start that nats-server" in line
            disk.free()
            again.set()  # nothing new to say: it stores nothing yet
            await broker.stop()
            await broker.start()
            await system.link.wait_up(HANGS)
            assert await next_line() == f"server {broker.name} stores again"
            await bus.link.wait_up(HANGS)
            await store.put("leader", b"b")
            await cancel_and_wait(watching)
    finally:
        await broker.stop()
