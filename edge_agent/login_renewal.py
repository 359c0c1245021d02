"""Keep the agent's login good: renew it at half of its life, and as soon as the cloud is reached again."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.world import World

RETRY_SECONDS = 30.0
"""Seconds between two attempts, with some at random: a thousand edges come back at once after an outage."""


class LoginRenewal:
    """Renews the login in a URL's file of credentials; does nothing for a login that does not expire.

    Args:
        say: called with a line about a renewal that failed, and about the first that works again.
    """

    def __init__(self, url: str, world: World, root: str, say: Callable[[str], None]) -> None:
        self._url = url
        self._file = ConnectionUrl.parse(url).credentials.file
        self._world = world
        self._root = root
        self._say = say

    async def run(self) -> None:
        """Renew until cancelled; return where there is nothing to renew."""
        if self._file is None:
            return
        claims = UserCredentials.read(self._file).claims
        if not claims.expires:
            return
        due, failed = float(claims.issued_at + (claims.expires - claims.issued_at) // 2), ""
        while True:
            await self._world.sleep(max(0.0, due - self._world.now()))
            try:
                from heliograph.enrolment import renew  # loaded once a day, by a node that has enrolled

                due = float(await renew(self._url, self._world, self._root))
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
