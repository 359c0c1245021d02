"""Unplugged edges: how long until the coordinator's presence shows them offline, and back."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

from benchmarks.declaration import Samples
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.coordinator.edges.presence import Presence
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.nats_server import SYSTEM_USER, Broker, User
from heliograph.local.relay import Relay

PHASE = 0.1
"""Seconds between two edges' connections, which puts each into another phase of the broker's pings."""
TALKS_EVERY = 0.05


@asynccontextmanager
async def pluggable(
    server: Broker, edges: Sequence[str], changed: Callable[[str, bool], None]
) -> AsyncIterator[list[Relay]]:
    """Connect edges through relays and follow their presence; yield the relays. Half of the edges talk all the time."""
    world = World()
    async with AsyncExitStack() as stack:
        system = cast(NatsBus, await stack.enter_async_context(connect(server.url(SYSTEM_USER))))
        seen = {edge: asyncio.Event() for edge in edges}

        def noted(edge: str, online: bool) -> None:
            (changed if seen[edge].is_set() else lambda *_: seen[edge].set())(edge, online)

        following = asyncio.create_task(Presence(system, world, noted).run())
        stack.push_async_callback(cancel_and_wait, following)
        relays = []
        for number, edge in enumerate(edges):
            relay = Relay(server.host, server.port, world)
            await relay.start()
            stack.push_async_callback(relay.stop)
            relays.append(relay)
            url = server.url(f"agent-{edge}").replace(str(server.port), str(relay.port))
            bus = await stack.enter_async_context(connect(url, name=f"agent-{edge}"))
            if number % 2:
                stack.push_async_callback(cancel_and_wait, asyncio.create_task(_talk(bus, edge, world)))
            await world.sleep(PHASE)
        for each in seen.values():
            await each.wait()
        yield relays


async def _talk(bus: Bus, edge: str, world: World) -> None:
    """Publish like an edge with traffic, which postpones the broker's pings."""
    while True:
        with contextlib.suppress(HeliographError):
            await bus.publish(topics.LOG.at(edge, edge=edge, component="agent"), b"{}")
        await world.sleep(TALKS_EVERY)


def seen(edges: int = 10) -> Samples:
    """Measure one cut of all links at once.

    Returns:
        ``offline`` and ``back``: seconds from the cut, and from its end, to each edge's change.
    """
    return asyncio.run(_seen([f"edge-{number}" for number in range(edges)]))


async def _seen(edges: Sequence[str]) -> Samples:
    world = World()
    changes: asyncio.Queue[tuple[bool, float]] = asyncio.Queue()
    users = [User(f"agent-{edge}", "secret", "agent", edge) for edge in edges]
    with tempfile.TemporaryDirectory(prefix="heliograph-presence-") as directory:
        server = Broker(Path(directory), "cloud", tuple(users))
        await server.start()
        try:
            async with pluggable(server, edges, lambda _, online: changes.put_nowait((online, world.monotonic()))) as (
                relays
            ):
                found = {}
                for name, act in (("offline", Relay.cut), ("back", Relay.restore)):
                    began = world.monotonic()
                    for relay in relays:
                        act(relay)
                    noticed = [await changes.get() for _ in edges]
                    assert all(online == (name == "back") for online, _ in noticed), f"edges came and went: {noticed}"
                    found[name] = [at - began for _, at in noticed]
                return found
        finally:
            await server.kill()
