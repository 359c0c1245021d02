"""Who is online, measured on real links: unplugged, back, and flapping."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.coordinator.edges.damping import STEADY
from heliograph.coordinator.edges.presence import Presence
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.nats_server import SYSTEM_USER, Broker, User
from heliograph.local.relay import Relay

OFFLINE_WITHIN = 3.0
BACK_WITHIN = 1.0


async def test_many_unplugged_edges_are_seen_offline_and_back_in_time(
    broker: Callable[..., Awaitable[Broker]],
) -> None:
    edges = [f"edge-{number}" for number in range(10)]
    server = await broker(users=[User(f"agent-{edge}", "secret", "agent", edge) for edge in edges])
    changes: asyncio.Queue[tuple[str, bool, float]] = asyncio.Queue()
    world = World()
    system = cast(NatsBus, connect(server.url(SYSTEM_USER)))
    presence = Presence(
        system, world, lambda edge, online: changes.put_nowait((edge, online, time.monotonic()))
    )
    relays, buses = [], list[Bus]()
    await system.open()
    running = asyncio.create_task(presence.run())
    try:
        for edge in edges:
            relay = Relay(server.host, server.port, world)
            await relay.start()
            relays.append(relay)
            url = server.url(f"agent-{edge}").replace(str(server.port), str(relay.port))
            buses.append(connect(url, name=f"agent-{edge}"))
            await buses[-1].open()
            await asyncio.sleep(0.1)  # each in a phase of its own of the broker's pings
        assert {edge for edge, *_ in [await changes.get() for _ in edges]} == set(edges)
        talking = [asyncio.create_task(_talk(bus, edge)) for edge, bus in zip(edges[:5], buses, strict=False)]
        await asyncio.sleep(1.5)
        unplugged = time.monotonic()
        for relay in relays:
            relay.cut()
        gone = [(await changes.get()) for _ in edges]
        assert all(not online for _, online, _ in gone)
        mended = time.monotonic()
        for relay in relays:
            relay.restore()
        back = [(await changes.get()) for _ in edges]
        assert all(online for _, online, _ in back)
        assert max(at - unplugged for *_, at in gone) < OFFLINE_WITHIN
        assert max(at - mended for *_, at in back) < BACK_WITHIN
    finally:
        for task in (running, *talking):
            task.cancel()
        for bus in (*buses, system):
            await bus.close()
        for relay in relays:
            await relay.stop()


async def _talk(bus: Bus, edge: str) -> None:
    """As an edge does that has something to say: what it sends puts off the broker's pings."""
    while True:
        with contextlib.suppress(HeliographError):
            await bus.publish(topics.LOG.at(edge, component="agent"), b"{}")
        await asyncio.sleep(0.05)


async def test_flapping_is_damped_in_the_status_and_never_in_the_replay(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], relayed=("edge-1",))
    async with cluster, AsyncClient(cluster.server) as client:
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
            await device.link.wait_up(5)
            for number in range(5):
                began = time.monotonic()
                relay.cut("reset")
                await cluster.wait_for_line("edge-1", "link to the cloud is down", times=number + 1)
                if number <= 2:  # the third return is not shown, nor what comes after it
                    await _until(statuses, lambda edge: not edge["online"])
                    assert time.monotonic() - began < BACK_WITHIN  # a broken connection is seen at once
                await device.publish(telemetry, json.dumps({"number": number}).encode())
                mended = time.monotonic()
                relay.restore()
                async with asyncio.timeout(BACK_WITHIN):
                    assert decode((await anext(replayed)).body).data["number"] == number
                if number < 2:  # with its first connection that is three times
                    await _until(statuses, lambda edge: edge["online"])
                    assert time.monotonic() - mended < BACK_WITHIN
                else:
                    flapping = await _until(statuses, lambda edge: edge["conditions"])
                    assert not flapping["online"]
                    assert flapping["conditions"][0]["reason"] == "Flaps"
            steady = await _until(statuses, lambda edge: edge["online"])
            assert time.monotonic() - mended >= STEADY
            assert steady["conditions"][0]["status"] == "False"


async def _until(statuses: AsyncIterator[Any], holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            edge: dict[str, Any] = decode((await anext(statuses)).body).data["status"]
            if holds(edge):
                return edge
