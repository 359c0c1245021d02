"""Remove what MQTT clients make the embedded broker retain: it would keep each request for ever."""

from __future__ import annotations

from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.world import World

SWEEP_EVERY = 5.0
"""Seconds between two sweeps. The streams' bounds hold in between, and while nobody leads."""


class RetainedSweep:
    """Sweeps the broker of the coordinator's own bus again and again."""

    def __init__(self, bus: Bus, world: World, failures: Failures) -> None:
        self._bus = bus
        self._world = world
        self._failures = failures

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            if deleted := await self._bus.drop_retained():
                self._failures.add("the MQTT door", Refused("retained", topic="the MQTT door",
                                   expected="requests and events without the retain flag",
                                   got=f"{deleted} retained ones, which are deleted"))  # fmt: skip
            await self._world.sleep(SWEEP_EVERY)
