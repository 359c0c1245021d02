"""What reaches the coordinator from edges: their reports, and their presence as the broker sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Report
from heliograph.bus.contract.resources import Edge
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Bus
from heliograph.coordinator.edges.edges import Edges
from heliograph.coordinator.edges.presence import MemoryPresence, Presence, presence_of
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused

PRESENCE_KNOWN_WITHIN = 2.0


class EdgeFollower:
    """Hands reports and changes of presence to ``edges``.

    Args:
        system: a connection of the broker's system account; None: an edge is online once it has reported.
    """

    def __init__(
        self,
        port: Port,
        system: Bus | None,
        store: ResourceStore,
        edges: Edges,
        out: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._port = port
        self._system = system
        self._store = store
        self._edges = edges
        self._out = out
        self._warn = warn
        self.reports_read = asyncio.Event()
        """Set once the newest report of every edge has been read, also of edges that appeared while nobody led."""

    async def follow_reports(self) -> None:
        """Until cancelled: every edge's newest report, then each that comes."""
        newest = await self._port.bus.last_sequence(topics.REPORT.stream_name)
        if not newest:
            self.reports_read.set()
        async with self._port.bus.consume(topics.REPORT.filter(), start=1) as messages:
            async for message in messages:
                try:
                    self._reported(self._port.read(topics.REPORT, message))
                except Refused as error:
                    self._warn(str(error))
                if message.sequence >= newest:
                    self.reports_read.set()

    def presence(self) -> Presence | MemoryPresence | None:
        """What follows the broker's connections; None, with a warning, where there is no system account. Edges that
        were online when a coordinator last led count as online until the broker answers."""
        if self._system is None:
            self._warn("no system account given (--system): an edge counts as online once it has reported")
            return None
        before = [edge.name for edge in self._store.all(Edge) if edge.status.online]
        self._edges.assume_online(*before)
        return presence_of(self._system, self._port.world, self._presence_changed, before)

    def _reported(self, received: Received[Report]) -> None:
        edge, report = received.params["edge"], received.payload
        if report.edge != edge:
            self._warn(f"report on {received.message.topic}: expected edge {edge}, got {report.edge}")
            return
        if self._system is None:
            self._edges.assume_online(edge)
        self._edges.reported(edge, report)

    def _presence_changed(self, edge: str, online: bool) -> None:
        self._out(f"edge {edge} is {'online' if online else 'offline'}")
        self._edges.connection(edge, online)


async def known_in_time(presence: Presence | MemoryPresence) -> None:
    """Wait until it is known who is connected: a first decision without it would wait for nobody. A broker that does
    not answer delays it by two seconds at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PRESENCE_KNOWN_WITHIN):
            await presence.known.wait()
