"""A count of a device's numbered events in the cloud's stream."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import TELEMETRY
from heliograph.bus.transport import Bus

MAX_NUMBER = 1_000_000
TIMEOUT = 15.0


@dataclass
class Tally:
    """The numbers seen, with the arrivals of each."""

    seen: dict[int, int] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, number: int) -> None:
        if 0 < number <= MAX_NUMBER:
            self.seen[number] = self.seen.get(number, 0) + 1
        self._changed.set()

    def lost(self, sent: int) -> int:
        """Return how many of the numbers 1 to ``sent`` have not come."""
        return sum(number not in self.seen for number in range(1, sent + 1))

    @property
    def received(self) -> int:
        """Number of different numbers."""
        return len(self.seen)

    @property
    def twice(self) -> int:
        """Number of arrivals beyond the first of each number."""
        return sum(self.seen.values()) - len(self.seen)

    async def follow(self, bus: Bus, edge: str) -> None:
        """Count an edge's telemetry from the stream's beginning, until cancelled."""
        async with bus.consume(TELEMETRY.filter(edge=edge)) as messages:
            async for message in messages:
                data = decode(message.body, message.topic).data
                self.count(data["number"] if isinstance(data, dict) and isinstance(data.get("number"), int) else 0)

    @property
    def gaps(self) -> int:
        """Number of missing numbers below the highest."""
        return self.lost(max(self.seen, default=0))

    async def wait_received(self, received: int, timeout: float = TIMEOUT) -> None:
        """Wait until ``received`` different numbers have come, at most ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.received < received:
                    self._changed.clear()
                    await self._changed.wait()
