"""Bound what MQTT clients make the embedded broker keep, and remove what they retain: it would keep it for ever.

It looks from time to time: a subscription would bring the bytes of each retained message, a flood of them too.
"""

from __future__ import annotations

from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.failures import Failures
from heliograph.core.world import World

SWEEP_EVERY = 5.0
"""Seconds between two sweeps. The streams' bounds hold in between, and while nobody leads."""


class RetainedSweep:
    """Sweeps what the broker of a bus keeps of MQTT clients, again and again."""

    def __init__(self, bus: Bus, world: World, failures: Failures) -> None:
        self._bus = bus
        self._world = world
        self._failures = failures

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self._bus.bound_mqtt()
            except Unreachable:
                raise
            except HeliographError as error:  # the broker's disk has no room for the bounds; the sweep works without
                self._failures.add("bounds of what MQTT clients make the broker keep", error)
            if deleted := await self._bus.drop_retained():
                self._failures.add("the MQTT door", Refused("retained", topic="the MQTT door",
                                   expected="requests and events without the retain flag",
                                   got=f"{deleted} retained ones, which are deleted"))  # fmt: skip
            await self._world.sleep(SWEEP_EVERY)
