"""Say which server of the broker stores nothing any more since its disk was full, and what mends it.

It concerns whoever stands by as well: the lease lies in such a stream, and nobody leads then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.store_health import closed_streams
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.core.world import World

EVERY = 10.0
"""Seconds between two questions: the broker tells nobody by itself."""


class StoreHealth:
    """Asks until cancelled.

    Args:
        system: a connection of the broker's system account; without one nobody can be asked.
        say: called with a line about each server that stores nothing any more, once, and about one that stores again.
    """

    def __init__(self, system: Bus | None, world: World, say: Callable[[str], None]) -> None:
        self._system = system
        self._world = world
        self._say = say

    async def run(self) -> None:
        if not isinstance(self._system, NatsBus):
            return
        said: set[str] = set()
        while True:
            await self._system.link.wait_up()
            with contextlib.suppress(HeliographError):  # the link's own trouble is said elsewhere
                closed = await closed_streams(self._system.connection)
                for server in sorted(closed.keys() - said):
                    self._say(f"warning: server {server} stores nothing any more, {closed[server]}. Make room on the "
                              "disk of its store, then start that nats-server again: it does not go on by "
                              "itself")  # fmt: skip
                for server in sorted(said - closed.keys()):
                    self._say(f"server {server} stores again")
                said = set(closed)
            await self._world.sleep(EVERY)
