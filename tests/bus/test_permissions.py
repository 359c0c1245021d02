"""Roles, on a real broker: what a role is not named for it can not do, and the broker's log says who tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import aiomqtt
import pytest

from heliograph.bus.broker import Broker
from heliograph.bus.connect import connect
from heliograph.bus.errors import HeliographError, Refused
from heliograph.bus.memory import matches
from heliograph.bus.nats import NatsBus
from heliograph.bus.permissions import Permissions, Place, inbox_of, permissions, upload_bucket
from heliograph.bus.tensors import INLINE
from heliograph.bus.topics import TASK, TOPICS, Role
from heliograph.bus.transport import Bus, Message
from heliograph.bus.world import World

import hashlib

from heliograph.bus.resources import WeightsRef

Start = Callable[..., Awaitable[Broker]]
PATIENCE = 10.0
MARKER = "request/jobs/list"


@asynccontextmanager
async def connected(url: str, inbox: str = "", root: str = "heliograph") -> AsyncIterator[Bus]:
    async with connect(url, root=root, inbox=inbox) as bus:
        await bus.link.wait_up(PATIENCE)
        yield bus


@asynccontextmanager
async def nats(server: Broker, user: str = "", inbox: str = "", root: str = "heliograph") -> AsyncIterator[NatsBus]:
    async with connected(server.url(user), inbox, root) as bus:
        assert isinstance(bus, NatsBus)
        yield bus


def agent(server: Broker, edge: str, root: str = "heliograph") -> AbstractBus:
    return nats(server, f"agent-{edge}", inbox_of(edge), root)


async def following(messages: AsyncIterator[Message]) -> Message:
    async with asyncio.timeout(PATIENCE):
        return await anext(messages)


def violations(server: Broker) -> list[str]:
    """The lines of the broker's log that name a violation."""
    return [line for line in (server.directory / "nats.log").read_text().splitlines() if "Violation" in line]
