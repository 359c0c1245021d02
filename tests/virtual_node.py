"""A node in memory and in virtual time, for tests of a part of an agent or a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

import pytest

from heliograph.bus.blob_sources import CloudBlobs
from heliograph.bus.connect import connect
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.port import Port
from heliograph.bus.transport import Message
from heliograph.coordinator.blobs.relay import BlobRelay
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.simulations.virtual.disk import Disk, OpenFiles
from heliograph.simulations.virtual.loop import Process, VirtualLoop, run
from heliograph.simulations.virtual.network import Link, LinkedBus

EDGE = "edge-1"
NODE, CLOUD = "memory://node", "memory://cloud"


class Node:
    """A node's broker and the cloud's, a connection to each, and the log lines."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        ids = count(1)
        self.world = World(
            monotonic=loop.time,
            now=loop.time,
            new_id=lambda: f"{next(ids):032x}",
            database=Disk(OpenFiles()).connect,
            transport=self._connect,
            say=lambda line: self.logged.append(line),
        )
        self.logged: list[str] = []
        """Lines that agent and workers logged."""
        self.links = {url: Link(loop, self.world) for url in (NODE, CLOUD)}
        """Links to the brokers, with ``links[NODE].cut()`` and ``restore()``."""
        self.broker = Hub(loop.time, keeps_streams=False)
        self.cloud_broker = Hub(loop.time)
        self.node = self.port(NODE, "agent")
        self.cloud = self.port(CLOUD, f"agent-{EDGE}")
        self.background = Background(self.logged.append)
        coordinator = MemoryBus(CLOUD, DEFAULT_ROOT, self.world, "coordinator", self.cloud_broker)
        self.coordinator = Port(coordinator, self.world, "cloud/coordinator/life")
        """A connection in the cloud itself, over no link."""
        self.blobs = CloudBlobs(self.cloud, EDGE)
        self.refused_blobs: set[str] = set()
        """Digests of blobs that the cloud does not give this edge."""

    def port(self, url: str, name: str, source: str = f"{EDGE}/agent/life") -> Port:
        """Return a new connection to one of the brokers; ``bus.lost()`` and ``bus.connect()`` break and mend it."""
        return Port(connect(url, world=self.world, name=name), self.world, source)

    async def open(self) -> None:
        await self.node.bus.open()
        await self.cloud.bus.open()
        await self.coordinator.bus.open()
        relay = BlobRelay(self.coordinator, lambda edge, digest: digest not in self.refused_blobs,
                          Failures(self.logged.append))  # fmt: skip
        self._relaying = self.start(relay.run())
        await self.settled()

    def publish(self, topic: str, body: bytes, **more: Any) -> None:
        """Publish a message as another client of the node's broker."""
        self.broker.publish(topic, Message(topic, body, **more))

    @staticmethod
    def heard(hub: Hub, pattern: str) -> list[Message]:
        """Return a list that receives every later message of that pattern."""
        found: list[Message] = []
        hub.receivers.add(pattern, "", found.append)
        return found

    async def settled(self) -> None:
        """Wait until nothing is left to do at this moment."""
        await self.loop.wait_until_idle()

    def start(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.loop.create_task(part)

    def _connect(self, url: str, root: str, world: World, name: str, inbox: str) -> LinkedBus:
        hub = self.broker if url == NODE else self.cloud_broker
        return LinkedBus(url, root, world, name, hub, self.links[url], Process(name), durable=url == CLOUD)


@pytest.fixture(scope="session")
def on_node() -> Callable[[Callable[[Node], Coroutine[Any, Any, Any]]], Any]:
    """Return ``on_node(test)``, which returns the result of ``test(node)`` in virtual time on a connected node."""

    def run_test(test: Callable[[Node], Coroutine[Any, Any, Any]]) -> Any:
        async def main(loop: VirtualLoop) -> Any:
            node = Node(loop)
            await node.open()
            return await test(node)

        return run(main)

    return run_test
