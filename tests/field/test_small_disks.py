"""``demo``, ``up`` and ``run`` on a small disk: 300 MB is enough, too little is said at once, and a disk that fills up
stops nothing for good."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.nats import mqtt_streams
from heliograph.bus.nats.bus import NatsBus
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local import disk_watch
from heliograph.local.cluster import LocalCluster
from heliograph.local.disk_room import MB, NODE_LEAST, NODE_MOST, needed, shares
from heliograph.local.disk_watch import DiskWatch
from heliograph.local.nats_server import Broker, User
from tests.patience import HANGS


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return ``free(*megabytes)``, after which each look at the disk finds the next number, and the last for ever."""

    def give(*megabytes: int) -> None:
        coming = iter(megabytes)
        last = [0]

        def usage(_: object) -> Usage:
            last[0] = next(coming, last[0])
            return Usage(0, 0, last[0] * MB)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return give


async def test_a_cluster_starts_on_a_disk_of_300_mb(tmp_path: Path, free: Callable[..., None]) -> None:
    free(300)
    async with LocalCluster(tmp_path, ["edge-1"]) as cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        assert [each["metadata"]["name"] for each in await client.edges.list()] == ["cloud", "edge-1"]
        node = cluster.nodes["edge-1"].broker
        assert node is not None and cluster.broker.store_bytes + node.store_bytes <= 225 * MB
        for broker, user in ((cluster.broker, "coordinator"), (node, "agent")):
            async with connect(broker.url(user)) as bus:
                await bus.link.wait_up(HANGS)
                assert isinstance(bus, NatsBus)
                listed = (await bus.connection.ask("$JS.API.STREAM.LIST"))["streams"]
                reserved = sum(max(0, each["config"]["max_bytes"]) for each in listed)
                assert 0 < reserved < broker.store_bytes


@pytest.mark.parametrize("command", ["up", "demo"])
def test_too_small_a_disk_is_said_at_once(
    typed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: Callable[..., None], command: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    free(100)
    ran = typed(command, "--edges", "5")
    assert ran.code == 1
    assert f"100 MB free, and a cluster of 5 edges needs {needed(5) // MB + 1} MB. Make room" in ran.error


@pytest.mark.parametrize("nodes", [0, 1, 3, 50, 200])
def test_brokers_share_what_is_free(nodes: int) -> None:
    for room in (needed(nodes), 10 * needed(nodes), 1000 * needed(nodes)):
        found = shares(room, nodes)
        assert found.cloud + nodes * found.node <= room
        assert not nodes or NODE_LEAST <= found.node <= NODE_MOST
    assert needed(3) < 300 * MB


async def test_a_node_broker_bounds_what_its_devices_make_it_keep_on_the_smallest_disk(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "node", (User("agent", "of-agent", "agent"),), store_bytes=NODE_LEAST)
    await broker.start()
    try:
        async with connect(broker.url("agent", "mqtt")) as mqtt, connect(broker.url("agent")) as bus:
            await mqtt.link.wait_up(HANGS)
            await bus.link.wait_up(HANGS)
            assert isinstance(bus, NatsBus)
            await bus.bound_mqtt()
            bounds = await mqtt_streams.present_bounds(bus.connection)
            assert bounds == {name: most // mqtt_streams.MOST_SHRUNK for name, most in mqtt_streams.BOUNDS.items()}
    finally:
        await broker.stop()


class Stopped:
    """A broker that counts how often it is stopped."""

    times = 0

    async def stop(self) -> None:
        self.times += 1


@pytest.mark.parametrize(
    ("megabytes", "said", "restarts"),
    [
        ((500, 63, 40, 90, 97, 500), ["has 63 MB left", "has room again: 97 MB"], 0),
        ((500, 3, 0, 20, 120), ["has 3 MB left", "has room again: 120 MB"], 1),
        ((500, 30, 0, 200, 0, 200), ["has 30 MB left", "room again", "has 0 MB left", "room again"], 2),
    ],
)  # fmt: skip
async def test_a_disk_that_fills_up_is_said_and_brokers_that_it_stopped_start_again(
    tmp_path: Path, free: Callable[..., None], megabytes: tuple[int, ...], said: list[str], restarts: int
) -> None:
    free(*megabytes)
    broker, lines = Stopped(), []
    looks: Iterator[int] = iter(megabytes)

    async def sleep(_: float) -> None:
        if next(looks, None) is None:
            raise asyncio.CancelledError

    watch = DiskWatch(tmp_path, [broker], World(sleep=sleep), lines.append)  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await watch.run()
    assert broker.times == restarts
    assert [words in line for words, line in zip(said, lines, strict=True)] == [True] * len(said)
    assert disk_watch.FULL < disk_watch.LOW < disk_watch.ENOUGH
