"""Keep the agent's login good: renew it at half of its life, and as soon as the cloud is reached again."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.tasks import Flag, wait_for
from heliograph.core.world import World

RETRY_SECONDS = 30.0
"""Seconds between two attempts, with some at random: a thousand edges come back at once after an outage."""
DOUBT_SECONDS = 300.0
"""Seconds between two renewals before they are due: whoever can publish documents of another key causes no more."""
SPREAD_SECONDS = 5.0
"""Seconds over which edges renew that all meet a new key at once."""


class LoginRenewal:
    """Renews the login in a URL's file of credentials; does nothing for a login that does not expire.

    Args:
        say: called with a line about a renewal that failed, and about the first that works again.
        renewed: called after each renewal: it says which keys of the cloud the node obeys.
        bus: the agent's connection with that login, over which it asks while the login is good.
    """

    def __init__(
        self, url: str, world: World, root: str, say: Callable[[str], None],
        renewed: Callable[[], None] = lambda: None, bus: Bus | None = None,
    ) -> None:  # fmt: skip
        self._url = url
        self._file = ConnectionUrl.parse(url).credentials.file
        self._world = world
        self._root = root
        self._say = say
        self._renewed = renewed
        self._bus = bus
        self._doubted = Flag()
        self._doubted_at = -DOUBT_SECONDS

    def doubt(self) -> None:
        """Renew soon, since the cloud has signed by a key that this node does not know: it may have another one now."""
        if self._world.monotonic() - self._doubted_at >= DOUBT_SECONDS:
            self._doubted_at = self._world.monotonic()
            self._doubted.set()

    async def run(self) -> None:
        """Renew until cancelled; return where there is nothing to renew."""
        if self._file is None:
            return
        claims = UserCredentials.read(self._file).claims
        if not claims.expires:
            return
        due, failed = float(claims.renew_at), ""
        while True:
            if await wait_for(self._doubted, max(0.0, due - self._world.now())):
                self._doubted.clear()
                await self._world.sleep(SPREAD_SECONDS * self._world.rng.random())
            try:
                from heliograph.enrolment import renew  # loaded once a day, by a node that has enrolled

                due = float(await renew(self._url, self._world, self._root, self._bus))
            except HeliographError as error:
                if (line := f"the login is not renewed: {error}") != failed:
                    self._say(line)
                    failed = line
                pause = RETRY_SECONDS * (10 if isinstance(error, Refused) else 1)
                due = self._world.now() + pause * (0.5 + self._world.rng.random())
            else:
                if failed:
                    self._say("the login is renewed")
                failed = ""
                self._renewed()
