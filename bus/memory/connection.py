"""The way between a client and its hub."""

from __future__ import annotations

from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Arrivals, Link, Message
from heliograph.core.errors import Unreachable


class MemoryConnection:
    """A perfect way: nothing is lost or late. Another one overrides ``up``, ``down`` and ``arrive``."""

    def __init__(self, link: Link, hub: Hub) -> None:
        self.link = link
        self.hub = hub

    def check(self) -> None:
        """Raises Unreachable where the link is down."""
        if not self.link.up:
            raise Unreachable("the memory link is down")

    async def up(self, size: int) -> None:
        """Carries ``size`` bytes to the hub; where it raises Unreachable nothing arrives there."""

    async def down(self, size: int = 0) -> None:
        """Carries an answer of ``size`` bytes back; where it raises Unreachable only the answer is lost."""

    def arrive(self, arrivals: Arrivals, message: Message) -> None:
        """Hands a message of the hub to its reader."""
        if self.link.up:
            arrivals.put(message)
