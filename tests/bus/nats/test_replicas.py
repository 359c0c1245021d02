"""Replicas: set by the coordinator alone, and refused in one sentence where servers are lacking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from heliograph.bus.contract import buckets
from heliograph.bus.contract.topics import LOG
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.stream_making import TooFewServers
from heliograph.core.errors import Unreachable
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.world import World
from heliograph.local.broker_cluster import ClusteredBroker, clustered
from heliograph.local.nats_server import Broker, User
from tests.bus.meeting import blob
from tests.patience import HANGS

COORDINATOR: Final = "coordinator"


@asynccontextmanager
async def logged_in(broker: Broker, replicas: int) -> AsyncIterator[NatsBus]:
    async with NatsBus(broker.url(COORDINATOR), "heliograph", World(), COORDINATOR) as bus:
        bus.connection.replicas = replicas
        await bus.link.wait_up(HANGS)
        yield bus


@asynccontextmanager
async def three(directory: Path) -> AsyncIterator[list[ClusteredBroker]]:
    """Start three servers, and stop those that run at the end."""
    one = Broker(directory / "broker", "cloud", (User(COORDINATOR, "", COORDINATOR),), name="cloud")
    servers = clustered(one, 3)
    async with AsyncExitStack() as stack:
        for each in servers:
            stack.push_async_callback(each.kill)
            await each.start()
        yield servers


async def replicas_of(bus: NatsBus) -> dict[str, int]:
    """Return the replicas of each stream, once each has a leader."""
    async with asyncio.timeout(HANGS):
        while True:
            answer = json.loads((await bus.connection.request("$JS.API.STREAM.LIST", b"{}")).data)
            if not answer.get("missing"):
                break
    return {each["config"]["name"]: each["config"]["num_replicas"] for each in answer["streams"]}


async def not_three(bus: NatsBus) -> dict[str, int]:
    return {name: number for name, number in (await replicas_of(bus)).items() if number != 3}


async def too_few(bus: NatsBus) -> str:
    """Return why a bus cannot be prepared with so few servers. Raise Unreachable where they elect a leader first."""
    try:
        await bus.prepare()
    except TooFewServers as error:
        return str(error)
    return "they are enough"


async def reached(call: Callable[[], Awaitable[Any]]) -> Any:
    """Return the result of a call once the cluster answers."""
    async with asyncio.timeout(HANGS):
        return await retry_until_reachable(call, World(), print)


async def test_a_single_server_refuses_replicas_in_one_sentence(broker: Callable[..., Awaitable[Broker]]) -> None:
    async with logged_in(await broker(), 1) as bus:
        await bus.kv(buckets.COORDINATOR)
    async with logged_in(await broker(), 3) as bus:
        said = ("3 replicas need as many nats-servers with JetStream in one cluster, and fewer answer .* Start the "
                "others, or start the coordinator with fewer --replicas")  # fmt: skip
        with pytest.raises(TooFewServers, match=said) as refused:
            await bus.kv(buckets.COORDINATOR)
            await bus.prepare()
        assert isinstance(refused.value, Unreachable)  # the coordinator goes on trying


async def test_replicas_are_changed_on_what_exists_and_by_the_coordinator_alone(tmp_path: Path) -> None:
    async with three(tmp_path) as servers:
        async with logged_in(servers[0], 1) as bus:
            await reached(lambda: bus.kv("things"))
            await reached(bus.prepare)
            await reached(lambda: bus.blobs("up-edge-1"))
            assert set((await replicas_of(bus)).values()) == {1}
            await bus.publish(LOG.at("info", edge="edge-1", component="agent"), b"a line")
        async with logged_in(servers[0], 3) as bus:
            await reached(bus.prepare)
            assert await not_three(bus) == {}
            async with bus.consume(LOG.filter()) as lines, asyncio.timeout(HANGS):
                assert (await anext(lines)).body == b"a line"  # its stream was made anew
        async with logged_in(servers[0], 0) as bus:
            await reached(lambda: bus.kv("things"))
            await reached(lambda: bus.blobs("up-edge-1"))
            await reached(lambda: bus.kv("more"))
            assert await not_three(bus) == {"KV_more": 1}
        async with logged_in(servers[0], 5) as bus:
            assert "5 replicas need" in await reached(lambda: too_few(bus))


async def test_clients_and_transfers_go_to_another_server(tmp_path: Path) -> None:
    async with three(tmp_path) as servers, logged_in(servers[0], 3) as bus:
        keys = await reached(lambda: bus.kv("things"))
        store = await reached(lambda: bus.blobs("models"))
        revision = await reached(lambda: keys.put("one", b"1"))
        sent = blob(tmp_path / "sent", 100_000)
        await reached(lambda: store.put(tmp_path / "sent", sent))
        await servers[0].kill()  # the one that transfers try first
        again = await reached(lambda: keys.get("one"))
        assert (again.value, again.revision) == (b"1", revision)
        assert await reached(lambda: keys.get("two")) is None
        await reached(lambda: keys.put("one", b"2", revision))
        await reached(lambda: store.fetch(sent, tmp_path / "fetched"))
        assert (tmp_path / "fetched").read_bytes() == (tmp_path / "sent").read_bytes()
        await servers[0].start()
        await servers[1].kill()
        assert (await reached(lambda: keys.get("one"))).value == b"2"
