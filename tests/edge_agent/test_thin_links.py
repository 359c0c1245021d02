"""A journal that is replayed over thin links: everything arrives, in order and once. ``make bench`` has the figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.topics import BULK
from heliograph.core.world import World
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.local.nats_server import PING_INTERVAL, Broker
from heliograph.local.relay import Relay
from tests.edge_agent.test_forwarder import TELEMETRY, Cloud
from tests.patience import HANGS

BUFFER = 4096
"""Bytes that the relay's sockets take in ahead of the link: more would hide from a client how thin it is."""


@pytest.fixture
async def thin(broker: Callable[..., Awaitable[Broker]], tmp_path: Path) -> AsyncIterator[Cloud]:
    started = await broker(ping_interval=PING_INTERVAL)  # as it is usually: the broker ends what is silent for 2.1 s
    relay = Relay(started.host, started.port, World(), buffer=BUFFER)
    await relay.start()
    async with connect(started.url("coordinator"), name="watcher") as watcher:
        await watcher.link.wait_up(HANGS)
        await watcher.prepare()
        yield Cloud(started, watcher, relay, tmp_path)
    await relay.stop()


async def waiting_events(cloud: Cloud, count: int, size: int = 100) -> Journal:
    journal = cloud.journal()
    for number in range(1, count + 1):
        kept = journal.append(NewEvent(TELEMETRY, b"%d".ljust(size) % number, BULK))
    await kept
    return journal


async def arrived(cloud: Cloud, count: int) -> list[int]:
    """Return the numbers of the stream's events, once so many are there."""
    found: list[int] = []
    async with asyncio.timeout(HANGS), cloud.watcher.consume(TELEMETRY) as messages:
        while len(found) < count:
            found.append(int((await anext(messages)).body))
    return found


async def counted(cloud: Cloud) -> int:
    """Return the number of events that were stored: one that came twice would count twice."""
    return await cloud.watcher.last_sequence("TELEMETRY")


@pytest.mark.parametrize(
    ("count", "up", "down", "latency"),
    [(300, 40_000.0, 40_000.0, 0.05), (100, 10_000.0, 2_000.0, 0.1), (120, 20_000.0, 20_000.0, 0.6)],
    ids=["thin", "asymmetric", "long"],
)
async def test_more_events_than_pass_between_two_pings_arrive_once(
    thin: Cloud, count: int, up: float, down: float, latency: float
) -> None:
    thin.relay.bandwidth, thin.relay.bandwidth_down, thin.relay.latency = up, down, latency
    journal = await waiting_events(thin, count)
    downs = 0
    async with thin.forwarding(journal) as bus:
        await bus.link.wait_up(HANGS)

        def changed(is_up: bool) -> None:
            nonlocal downs
            downs += not is_up

        bus.link.listen(changed)
        assert await arrived(thin, count) == list(range(1, count + 1))
        assert downs == 0
    assert await counted(thin) == count
    assert thin.refused == []
    journal.close()


async def test_a_link_that_stalls_and_goes_on_loses_and_repeats_nothing(thin: Cloud) -> None:
    thin.relay.bandwidth, thin.relay.latency = 40_000.0, 0.05
    journal = await waiting_events(thin, 400)
    async with thin.forwarding(journal) as bus:
        await bus.link.wait_up(HANGS)
        while thin.relay.bytes_up < 60_000:
            await asyncio.sleep(0.01)
        thin.relay.cut()  # nothing passes, and nobody says so
        await asyncio.wait_for(bus.link.wait_down(), HANGS)
        thin.relay.restore()
        assert await arrived(thin, 400) == list(range(1, 401))
    assert await counted(thin) == 400
    journal.close()


async def test_a_rate_that_falls_to_a_tenth_while_events_are_sent_ends_no_connection(thin: Cloud) -> None:
    thin.relay.bandwidth, thin.relay.latency = 200_000.0, 0.02
    journal = await waiting_events(thin, 700)
    downs = 0
    async with thin.forwarding(journal) as bus:
        await bus.link.wait_up(HANGS)

        def changed(is_up: bool) -> None:
            nonlocal downs
            downs += not is_up

        bus.link.listen(changed)
        while thin.relay.bytes_up < 150_000:
            await asyncio.sleep(0.01)
        thin.relay.bandwidth = 20_000.0
        assert await arrived(thin, 700) == list(range(1, 701))
        assert downs == 0
    assert await counted(thin) == 700
    journal.close()
