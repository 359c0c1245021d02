"""Presence on real links: unplugged, reconnected and flapping edges. ``make bench`` measures the delays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.unplugged_edges import pluggable
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.nats_server import PING_INTERVAL, Broker, User
from tests.patience import HANGS


async def test_many_unplugged_edges_are_seen_offline_and_back(broker: Callable[..., Awaitable[Broker]]) -> None:
    edges = [f"edge-{number}" for number in range(10)]
    users = [User(f"agent-{edge}", "secret", "agent", edge) for edge in edges]
    server = await broker(users=users, ping_interval=PING_INTERVAL)
    online = dict.fromkeys(edges, True)
    changed = asyncio.Event()

    def note(edge: str, up: bool) -> None:
        online[edge] = up
        changed.set()

    async with asyncio.timeout(HANGS), pluggable(server, edges, note) as relays:
        for up in (False, True):
            for relay in relays:
                relay.restore() if up else relay.cut()
            while set(online.values()) != {up}:
                changed.clear()
                await changed.wait()


@pytest.mark.long
async def test_flapping_is_damped_in_the_status_and_never_in_the_replay(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], relayed=("edge-1",))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        relay = cluster.nodes["edge-1"].relay
        node = cluster.nodes["edge-1"].broker
        assert relay is not None
        assert node is not None
        status = topics.STATUS.at(resource="edges", name="edge-1")
        telemetry = topics.TELEMETRY.at(edge="edge-1", device="d")
        async with (
            client.bus.subscribe(status) as statuses,
            client.bus.subscribe(telemetry) as replayed,
            connect(node.url(scheme="mqtt")) as device,
        ):
            await device.link.wait_up(HANGS)
            for number in range(5):
                relay.cut("reset")
                await cluster.wait_for_line("edge-1", "link to the cloud is down", times=number + 1)
                if number <= 2:  # the third return and later ones are not shown
                    await _until(statuses, lambda edge: not edge["online"])
                await device.publish(telemetry, json.dumps({"number": number}).encode())
                relay.restore()
                async with asyncio.timeout(HANGS):
                    assert decode((await anext(replayed)).body).data["number"] == number
                if number < 2:  # the edge has connected three times, its first connection included
                    await _until(statuses, lambda edge: edge["online"])
                else:
                    flapping = await _until(statuses, lambda edge: edge["conditions"])
                    assert not flapping["online"]
                    assert flapping["conditions"][0]["reason"] == "Flaps"
            steady = await _until(statuses, lambda edge: edge["online"])
            assert steady["conditions"][0]["status"] == "False"


async def _until(statuses: AsyncIterator[Any], holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    async with asyncio.timeout(HANGS):
        while True:
            edge: dict[str, Any] = decode((await anext(statuses)).body).data["status"]
            if holds(edge):
                return edge
