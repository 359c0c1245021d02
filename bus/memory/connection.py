"""The connection between a client and its hub."""

from __future__ import annotations

from heliograph.bus.link import Link
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Arrivals, Message
from heliograph.core.errors import Unreachable


class MemoryConnection:
    """A perfect connection: nothing is lost or late. A simulated network overrides ``up``, ``down`` and ``arrive``."""

    def __init__(self, link: Link, hub: Hub) -> None:
        self.link = link
        self.hub = hub

    def check(self) -> None:
        """Raise Unreachable if the link is down."""
        if not self.link.up:
            raise Unreachable("the memory link is down")

    async def send(self, size: int = 0) -> None:
        """Carry ``size`` bytes to the hub, unless the link is down. Raises Unreachable."""
        self.check()
        await self.up(size)

    async def up(self, size: int) -> None:
        """Carry ``size`` bytes to the hub. If it raises Unreachable, nothing has arrived there."""

    async def down(self, size: int = 0) -> None:
        """Carry an answer of ``size`` bytes back. If it raises Unreachable, only the answer is lost."""

    def arrive(self, arrivals: Arrivals, message: Message) -> None:
        """Deliver a message of the hub to its reader."""
        if self.link.up:
            arrivals.put(message)
