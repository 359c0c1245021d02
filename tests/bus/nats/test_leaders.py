"""The leaders of a cluster's streams: gathered at one server, whose end alone interrupts them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.leaders import gather_leaders
from heliograph.core.errors import Unreachable
from heliograph.core.world import World
from heliograph.local.nats_server import SYSTEM_USER, Broker
from tests.bus.nats.test_replicas import logged_in, reached, three
from tests.patience import HANGS

STEP_DOWN = "$JS.API.STREAM.LEADER.STEPDOWN"
BUCKETS = ("one", "two", "three", "four")


async def leaders(bus: NatsBus) -> set[str]:
    """Return the servers that lead the account's streams, once each has a leader."""
    async with asyncio.timeout(HANGS):
        while True:
            streams = json.loads((await bus.connection.request("$JS.API.STREAM.LIST", b"{}")).data)["streams"]
            found = {each["cluster"].get("leader", "") for each in streams}
            if "" not in found:
                return found


async def until_spread(bus: NatsBus) -> None:
    """Ask leaders to step down for others; a server that is not current yet refuses."""
    while len(await leaders(bus)) == 1:
        for name, server in zip(BUCKETS, ("cloud", "cloud-2", "cloud-3", "cloud"), strict=True):
            wanted = {"placement": {"preferred": server}}
            await reached(lambda name=name, wanted=wanted: bus.connection.ask(f"{STEP_DOWN}.KV_{name}", wanted))


async def until_gathered(bus: NatsBus, system: NatsBus) -> None:
    """Gather as the coordinator does: again while a stream is led elsewhere."""
    async with asyncio.timeout(HANGS):
        while await reached(lambda: gather_leaders([bus.connection], system.connection)):
            await asyncio.sleep(0.1)  # a leader tells nobody that it has gone


async def test_one_server_leads_all_and_the_end_of_another_changes_nothing(tmp_path: Path) -> None:
    async with (
        three(tmp_path) as servers, logged_in(servers[0], 3) as bus,
        NatsBus(servers[0].url(SYSTEM_USER), "heliograph", World(), "system") as system,
    ):  # fmt: skip
        await system.link.wait_up(HANGS)
        keys = [await reached(lambda name=name: bus.kv(name)) for name in BUCKETS]
        await until_spread(bus)
        await until_gathered(bus, system)
        (leader,) = await leaders(bus)
        other = next(each for each in servers if each.name != leader)
        await other.kill()
        for number, each in enumerate(keys):
            await reached(lambda each=each, number=number: each.put("key", b"%d" % number))
        assert await leaders(bus) == {leader}


async def test_a_server_without_a_cluster_has_no_leaders(broker: Callable[..., Awaitable[Broker]]) -> None:
    async with logged_in(await broker(), 0) as bus:
        await bus.kv("one")
        assert await gather_leaders([bus.connection], None) == 0


async def test_without_a_majority_it_says_that_the_servers_are_unreachable(tmp_path: Path) -> None:
    async with three(tmp_path) as servers, logged_in(servers[0], 3) as bus:
        await reached(lambda: bus.kv("one"))
        for each in servers[1:]:
            await each.kill()
        with pytest.raises(Unreachable):
            while True:  # it leads until it misses the others
                await gather_leaders([bus.connection], None)
