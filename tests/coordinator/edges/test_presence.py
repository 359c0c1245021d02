"""Presence from the broker's list and its events, which may arrive in either order."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from heliograph.bus.nats.bus import NatsBus
from heliograph.coordinator.edges.presence import Presence
from heliograph.core.world import World


def event(edge: str, connection: int) -> Msg:
    client = {"name": f"agent-{edge}", "user": f"agent-{edge}", "id": connection}
    return cast(Msg, SimpleNamespace(data=json.dumps({"client": client}).encode()))


class Broker:
    """A broker that lists the connections from before the call of ``meanwhile``."""

    def __init__(self, *connections: tuple[str, int]) -> None:
        self.connections = connections
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.connection = self

    async def request(self, subject: str, body: bytes) -> Any:
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
