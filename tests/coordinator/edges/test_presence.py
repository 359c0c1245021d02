"""Presence from the broker's list and its events, which may arrive in either order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.nats.bus import NatsBus
from heliograph.coordinator.edges.presence import Presence
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.nats_server import SYSTEM_USER
from heliograph.local.nats_server import Broker as RealBroker
from tests.patience import HANGS


def event(edge: str, connection: int) -> Msg:
    client = {"name": f"agent-{edge}", "user": f"agent-{edge}", "id": connection}
    return named(**client)


def named(**client: object) -> Msg:
    return cast(Msg, SimpleNamespace(data=json.dumps({"client": client}).encode()))


class Broker:
    """A broker that lists the connections from before the call of ``meanwhile``."""

    clustered = False
    server_id = "S"

    def __init__(self, *connections: tuple[str, int]) -> None:
        self.connections = connections
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.connection = self

    async def request(self, subject: str, body: bytes = b"") -> Any:
        if subject.endswith(".LEAFZ"):
            return SimpleNamespace(data=b"{}")
        if self.meanwhile is not None:
            await self.meanwhile()
        found = [{"name": f"agent-{edge}", "authorized_user": f"agent-{edge}", "cid": cid} for edge, cid in
                 self.connections]  # fmt: skip
        return SimpleNamespace(data=json.dumps({"data": {"connections": found}}).encode())


@pytest.fixture
def changes() -> list[tuple[str, bool]]:
    return []


def presence(broker: Broker, changes: list[tuple[str, bool]]) -> Presence:
    return Presence(cast(NatsBus, broker), World(), lambda edge, online: changes.append((edge, online)))


async def test_a_participant_is_present_by_its_login_and_known_as_one(changes: list[tuple[str, bool]]) -> None:
    present = presence(Broker(), changes)
    await present.on_connect(named(name="anything", user="participant-phone", id=7))
    await present.on_connect(named(name="participant-fake", user="alice", id=8))
    assert (changes, present.participants) == ([("phone", True)], {"phone"})
    await present.on_disconnect(named(name="anything", user="participant-phone", id=7))
    await present.on_connect(event("phone", 9))  # an agent has taken the name
    assert (changes[1:], present.participants) == ([("phone", False), ("phone", True)], set())


async def test_an_edge_that_connects_while_the_list_is_on_its_way_is_online(changes: list[tuple[str, bool]]) -> None:
    broker = Broker(("edge-1", 1))
    found = presence(broker, changes)
    broker.meanwhile = lambda: found.on_connect(event("edge-2", 2))
    await found.refresh()
    assert found.edges() == ["edge-1", "edge-2"]
    assert sorted(changes) == [("edge-1", True), ("edge-2", True)]


async def test_an_edge_that_leaves_while_the_list_is_on_its_way_is_offline(changes: list[tuple[str, bool]]) -> None:
    broker = Broker(("edge-1", 1), ("edge-2", 2))
    found = presence(broker, changes)
    await found.refresh()
    broker.meanwhile = lambda: found.on_disconnect(event("edge-2", 2))
    await found.refresh()
    assert found.edges() == ["edge-1"]
    assert changes[2:] == [("edge-2", False)]


async def test_an_edge_that_returns_by_another_connection_stays_online(changes: list[tuple[str, bool]]) -> None:
    broker = Broker(("edge-1", 1))
    found = presence(broker, changes)

    async def comes_back() -> None:
        await found.on_connect(event("edge-1", 2))
        await found.on_disconnect(event("edge-1", 1))

    await found.refresh()
    broker.meanwhile = comes_back
    await found.refresh()
    assert found.edges() == ["edge-1"]
    assert changes == [("edge-1", True)]


async def test_the_list_alone_shows_changes(changes: list[tuple[str, bool]]) -> None:
    broker = Broker(("edge-1", 1), ("edge-2", 2))
    found = presence(broker, changes)
    await found.refresh()
    broker.connections = (("edge-2", 3),)
    await found.refresh()
    assert found.edges() == ["edge-2"]
    assert changes == [("edge-1", True), ("edge-2", True), ("edge-1", False)]


async def test_where_the_broker_asks_for_no_user_the_name_counts_and_one_warning_says_so(
    changes: list[tuple[str, bool]],
) -> None:
    warnings: list[str] = []
    found = Presence(cast(NatsBus, Broker()), World(), lambda edge, online: changes.append((edge, online)),
                     warn=warnings.append)  # fmt: skip
    for number, edge in enumerate(("edge-1", "edge-2")):
        await found.on_connect(named(name=f"agent-{edge}", id=number))
    await found.on_connect(named(name="agent-edge-3", user="anonymous", id=9))
    assert found.edges() == ["edge-1", "edge-2"]
    assert len(warnings) == 1
    assert "Give each agent a login" in warnings[0]


async def test_a_client_counts_by_its_user_on_a_real_broker(
    broker: Callable[..., Awaitable[RealBroker]], changes: list[tuple[str, bool]]
) -> None:
    """By the broker's list, and by its events."""
    server = await broker()
    warnings: list[str] = []

    async def connect_liars(stack: AsyncExitStack) -> None:
        urls = [server.url(user, scheme) for scheme in ("nats", "mqtt") for user in ("", "alice", "operator")]
        # an MQTT client with a token names any user, and any client its connection
        lies = f"mqtt://agent-edge-1:{server.password('alice')}@{server.host}:{server.mqtt_port}"
        for url in (*urls, server.url("agent-edge-2"), lies):
            bus = connect(url, name="agent-edge-1")
            await stack.enter_async_context(bus)
            await bus.link.wait_up(HANGS)

    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(connect(server.url(SYSTEM_USER), name="presence"))
        await system.link.wait_up(HANGS)
        await connect_liars(stack)
        found = Presence(cast(NatsBus, system), World(), lambda edge, online: changes.append((edge, online)),
                         warn=warnings.append)  # fmt: skip
        following = asyncio.create_task(found.run())
        stack.push_async_callback(cancel_and_wait, following)
        async with asyncio.timeout(HANGS):
            await found.known.wait()
        assert found.edges() == ["edge-2"]
        await connect_liars(stack)
        agent = connect(server.url("agent-edge-1"), name="renamed", inbox=inbox_of("edge-1"))
        await stack.enter_async_context(agent)
        async with asyncio.timeout(HANGS):
            while not found.online("edge-1"):
                await asyncio.sleep(0)
        assert changes == [("edge-2", True), ("edge-1", True)]
    assert warnings == []
