"""Keep the leaders of a broker cluster's streams at one server, so that the end of another interrupts nothing."""

from __future__ import annotations

from collections.abc import Sequence

from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.leaders import gather_leaders
from heliograph.bus.transport import Bus
from heliograph.core.errors import Unreachable
from heliograph.core.world import World

LOOK_EVERY = 60.0
"""Seconds between two looks: streams are made, and servers come back, seldom."""
AGAIN_AFTER = 2.0
"""Seconds until another look while a stream is led elsewhere, or by none."""


class LeaderGathering:
    """Gathers the leaders when a coordinator begins to lead, and again now and then.

    Args:
        buses: a connection of each account that has streams.
        system: a connection of the system account, if there is one.
    """

    def __init__(self, buses: Sequence[Bus], system: Bus | None, world: World) -> None:
        self._accounts = [bus.connection for bus in buses if isinstance(bus, NatsBus)]
        self._system = system.connection if isinstance(system, NatsBus) else None
        self._world = world

    async def run(self) -> None:
        """Gather leaders until cancelled; return at once where the broker is no cluster."""
        while any(connection.replicas > 1 for connection in self._accounts):
            try:
                gathered = not await gather_leaders(self._accounts, self._system)
            except Unreachable:  # the servers elect
                gathered = False
            await self._world.sleep(LOOK_EVERY if gathered else AGAIN_AFTER)
