"""When a client tries again to connect: pauses that grow, and begin anew after a connection that lived."""

from __future__ import annotations

from heliograph.core.backoff import Backoff
from heliograph.core.world import World

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Ceilings of the first and of the longest pause, in seconds; pauses are drawn below them."""
LIVED = 1.0
"""Seconds after which a connection counts as one that lived. One that a broker ends sooner is another failed attempt:
else a broker that takes no login would be asked ten times a second."""


FIRST_LIMIT, LONGEST_LIMIT = 2.0, 20.0
"""Seconds for each step of an attempt to connect: at first, and at most. They double with each attempt that takes too
long, so that a link of long round trips is connected without anybody telling how long they are."""


class Reconnecting:
    """The attempts of one client to connect, and its connections.

    Args:
        servers: number of the URL's servers. They are tried one after the other, without a pause between them.
    """

    def __init__(self, world: World, servers: int = 1) -> None:
        self._world = world
        self._servers = servers
        self._backoff = Backoff(world.rng.random, FIRST_PAUSE, LONGEST_PAUSE)
        self.limit = FIRST_LIMIT
        """Seconds for each step of the next attempt."""
        self._begun = False
        self._tried = 0
        """Attempts of this round through the servers."""
        self._since: float | None = None
        """When the present connection began; None while there is none."""

    async def pause(self) -> None:
        """Wait until the next attempt is due. The first one of the client's life is due at once."""
        self.lost()  # a client that is let in and fails right after that says nothing
        if self._begun and self._tried % self._servers == 0:
            await self._world.sleep(self._backoff.next())
        self._begun = True
        self._tried += 1

    def late(self) -> None:
        """Note that an attempt has taken too long."""
        self.limit = min(2 * self.limit, LONGEST_LIMIT)

    def connected(self) -> None:
        """Note that the broker has let the client in."""
        self._since = self._world.monotonic()

    def lost(self) -> None:
        """Note that the connection has ended, if there was one."""
        if self._since is None:
            return
        if self._world.monotonic() - self._since >= LIVED:
            self._backoff.reset()
        self._since = None
        self._tried = 0
