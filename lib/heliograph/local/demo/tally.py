"""What of a device's numbered events has reached the cloud: counted in the cloud's stream, not assumed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import TELEMETRY
from heliograph.bus.transport import Bus

MOST = 1_000_000
TIMEOUT = 15.0


@dataclass
class Tally:
    """The numbers seen, each with how often."""

    seen: dict[int, int] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, number: int) -> None:
        if 0 < number <= MOST:
            self.seen[number] = self.seen.get(number, 0) + 1
        self._changed.set()

    def lost(self, sent: int) -> int:
        """How many of the numbers 1 to ``sent`` have not come."""
        return sum(number not in self.seen for number in range(1, sent + 1))

    @property
    def received(self) -> int:
        """Different numbers."""
        return len(self.seen)

    @property
    def twice(self) -> int:
        """Arrivals beyond the first of each number."""
        return sum(self.seen.values()) - len(self.seen)

    async def follow(self, bus: Bus, edge: str) -> None:
        """Counts an edge's telemetry, from the stream's beginning, until cancelled."""
        async with bus.consume(TELEMETRY.filter(edge=edge)) as messages:
            async for message in messages:
                data = decode(message.body, message.topic).data
                self.count(data["number"] if isinstance(data, dict) and isinstance(data.get("number"), int) else 0)

    @property
    def gaps(self) -> int:
        """How many numbers below the highest have not come."""
        return self.lost(max(self.seen, default=0))

    async def reach(self, received: int, timeout: float = TIMEOUT) -> None:
        """Returns when so many different numbers have come, or after ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.received < received:
                    self._changed.clear()
                    await self._changed.wait()
