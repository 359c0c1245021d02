"""Follow the edges: their reports, and their presence as the broker reports it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Offer, Payload, Report
from heliograph.bus.contract.resources import Edge
from heliograph.bus.contract.topics import Topic
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Bus
from heliograph.coordinator.edges.edges import Edges
from heliograph.coordinator.edges.presence import MemoryPresence, Presence, presence_of
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import wait_for

P = TypeVar("P", bound=Payload)
PRESENCE_TIMEOUT = 2.0
"""Seconds to wait at most for the broker's list of connections."""


class EdgeFollower:
    """Hands reports and changes of presence to ``edges``.

    Args:
        system: a connection of the broker's system account; None: an edge counts as online once it has reported.
    """

    def __init__(
        self,
        port: Port,
        system: Bus | None,
        store: ResourceStore,
        edges: Edges,
        out: Callable[[str], None],
        warn: Callable[[str], None],
        failures: Failures,
    ) -> None:
        self._port = port
        self._system = system
        self._store = store
        self._edges = edges
        self._out = out
        self._warn = warn
        self._failures = failures
        self.reports_read = asyncio.Event()
        """Set once the newest report and offers of every edge have been read, including edges that appeared while
        nobody led."""
        self._unread = {topics.REPORT.pattern, topics.OFFERS.pattern}

    async def follow(self) -> None:
        """Take every edge's newest report and offers, then each that comes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(topics.REPORT, self._reported))
            group.create_task(self._follow(topics.OFFERS, self._offered))

    async def _follow(self, topic: Topic[P], take: Callable[[Received[P]], None]) -> None:
        # not the stream's last sequence: a deleted edge's report may have had it, and would never come
        newest = await self._port.bus.newest_kept(topic.filter())
        if not newest:
            self._read(topic)
        async with self._port.bus.consume(topic.filter(), start=1) as messages:
            async for message in messages:
                with self._failures.contain(message.topic):
                    take(self._port.read(topic, message))
                if message.sequence >= newest:
                    self._read(topic)

    def _read(self, topic: Topic[Any]) -> None:
        self._unread.discard(topic.pattern)
        if not self._unread:
            self.reports_read.set()

    def presence(self) -> Presence | MemoryPresence | None:
        """Return a follower of the broker's connections; warn and return None without a system account. Edges that
        were online when a coordinator last led count as online until the broker answers."""
        if self._system is None:
            self._warn("no system account given (--system): an edge counts as online once it has reported")
            return None
        before = [edge.name for edge in self._store.all(Edge) if edge.status.online]
        self._edges.assume_online(*before)
        def changed(edge: str, online: bool) -> None:
            self._out(f"edge {edge} is {'online' if online else 'offline'}")
            self._edges.connection_changed(edge, online, edge in presence.participants)

        presence = presence_of(self._system, self._port.world, changed, before, self._warn)
        return presence

    def _offered(self, received: Received[Offer]) -> None:
        self._edges.offered(received.params["edge"], received.payload)

    def _reported(self, received: Received[Report]) -> None:
        edge, report = received.params["edge"], received.payload
        if report.edge != edge:
            raise Refused("invalid", topic=received.message.topic, field="edge", expected=edge, got=report.edge)
        if self._system is None:
            self._edges.assume_online(edge)
        self._edges.reported(edge, report)


async def wait_until_known(presence: Presence | MemoryPresence) -> None:
    """Wait until the connected edges are known: the first decision would otherwise wait for none of them. Continue
    after ``PRESENCE_TIMEOUT`` seconds where the broker does not answer."""
    await wait_for(presence.known, PRESENCE_TIMEOUT)
