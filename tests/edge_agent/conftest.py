"""A node in memory and in virtual time, around the part of the agent that is tested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

import pytest

from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.memory.hub import Hub
from heliograph.bus.port import Port
from heliograph.bus.transport import Message
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.simulations.virtual.disk import Disk, OpenFiles
from heliograph.simulations.virtual.loop import Process, VirtualLoop, run
from heliograph.simulations.virtual.network import Link, LinkedBus

EDGE = "edge-1"


class Node:
    """The node's broker and the cloud's, a connection to each, and what the agent said."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        ids = count(1)
        self.world = World(
            monotonic=loop.time,
            now=loop.time,
            new_id=lambda: f"{next(ids):032x}",
            database=Disk(OpenFiles()).connect,
        )
        self.broker = Hub(loop.time, keeps_streams=False)
        self.cloud_broker = Hub(loop.time)
        self.node = self.port("memory://node", self.broker, "agent", durable=False)
        self.cloud = self.port("memory://cloud", self.cloud_broker, f"agent-{EDGE}")
        self.said: list[str] = []
        self.background = Background(self.said.append)

    def port(
        self, url: str, hub: Hub, name: str, source: str = f"{EDGE}/agent/life", durable: bool = True
    ) -> Port:
        """A connection of its own to one of the brokers; ``bus.lost()`` and ``bus.connect()`` break and mend it."""
        link = Link(self.loop, self.world)
        return Port(
            LinkedBus(url, DEFAULT_ROOT, self.world, name, hub, link, Process(name), durable), self.world, source
        )

    async def open(self) -> None:
        await self.node.bus.open()
        await self.cloud.bus.open()

    def publish(self, topic: str, body: bytes, **more: Any) -> None:
        """What another client of the node's broker publishes."""
        self.broker.publish(topic, Message(topic, body, **more))

    @staticmethod
    def heard(hub: Hub, pattern: str) -> list[Message]:
        """From now on the messages of that pattern, as they come."""
        found: list[Message] = []
        hub.receivers.add(pattern, "", found.append)
        return found

    async def settled(self) -> None:
        """Returns when nothing is left to do at this moment."""
        await self.loop.settled()

    def start(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.loop.create_task(part)


@pytest.fixture(scope="session")
def on_node() -> Callable[[Callable[[Node], Coroutine[Any, Any, Any]]], Any]:
    """``on_node(test)``: what ``test(node)`` returns, run in virtual time on a node whose connections are open."""

    def run_test(test: Callable[[Node], Coroutine[Any, Any, Any]]) -> Any:
        async def main(loop: VirtualLoop) -> Any:
            node = Node(loop)
            await node.open()
            return await test(node)

        return run(main)

    return run_test
