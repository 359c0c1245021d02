"""Connections of the roles of a real broker, and its log of violations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.local.nats_server import Broker
from tests.bus.meeting import PATIENCE

Start = Callable[..., Awaitable[Broker]]
MARKER = "request/jobs/list"
"""Topic of a last message; its receiver has received everything permitted that the connection published earlier."""


@asynccontextmanager
async def connected(
    server: Broker, user: str = "", scheme: str = "nats", inbox: str = "", root: str = DEFAULT_ROOT
) -> AsyncIterator[Bus]:
    async with connect(server.url(user, scheme), root=root, inbox=inbox) as bus:
        await bus.link.wait_up(PATIENCE)
        yield bus


@asynccontextmanager
async def coordinator(server: Broker, root: str = DEFAULT_ROOT) -> AsyncIterator[NatsBus]:
    async with connected(server, "coordinator", root=root) as bus:
        assert isinstance(bus, NatsBus)
        await bus.prepare()
        yield bus


def agent(server: Broker, edge: str, root: str = DEFAULT_ROOT) -> AbstractAsyncContextManager[Bus]:
    return connected(server, f"agent-{edge}", inbox=inbox_of(edge), root=root)


async def try_to_publish(bus: Bus, topic: str, body: bytes = b"forged", retain: bool = False) -> None:
    """Publish without waiting for an acknowledgement: a broker does not answer a forbidden message."""
    if isinstance(bus, NatsBus):
        await bus.connection.client.publish(bus.subjects.subject(topic), body)
    else:
        await bus.publish(topic, body, retain=retain)


def violations(server: Broker, *words: str) -> list[str]:
    """Return the lines of the broker's log that report a violation and contain all of ``words``."""
    lines = (server.directory / "nats.log").read_text().splitlines()
    return [line for line in lines if "Violation" in line and all(word in line for word in words)]
