"""Say why a link is down: each reason once, with what to do, and once that the link is back."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.link import Link
from heliograph.core.world import World

GRACE = 5.0
"""Seconds after a loss in which nothing is said: a broker that starts again is not worth a line."""
FIRST_GRACE = 1.0
"""Seconds after the start in which nothing is said: a broker may start together with this process."""


class LinkWatch:
    """Follows a link; call ``begin`` before it is opened.

    Args:
        what: the broker as lines name it, ``the cloud`` for example.
        follows: what does not work without it, the end of a sentence; empty for nothing to say.
        warn, info: called with a line.
    """

    def __init__(
        self, link: Link, url: str, what: str, follows: str, world: World, warn: Callable[[str], None],
        info: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._link = link
        self._url = ConnectionUrl.parse(url)
        self._what = f"{what} at {self._url.shown}"
        self._follows = f"; {follows}" if follows else ""
        self._world = world
        self._warn = warn
        self._info = info
        self._quiet_until = 0.0
        self._said: set[str] = set()

    def begin(self) -> None:
        """Follow the link from now on."""
        self._quiet_until = self._world.monotonic() + FIRST_GRACE
        self._link.listen(self._changed)
        self._link.on_failure(self._failed)

    def _changed(self, up: bool) -> None:
        if not up:
            self._quiet_until = self._world.monotonic() + GRACE
        elif self._said:
            self._said.clear()
            self._info(f"{self._what} is reached again")

    def _failed(self, error: BaseException) -> None:
        if self._link.up or self._world.monotonic() < self._quiet_until:
            return
        from heliograph.bus.link_trouble import trouble_of  # an agent whose links are up has no use for it

        trouble = trouble_of(error, self._url)
        if trouble.kind not in self._said:
            self._said.add(trouble.kind)
            self._warn(f"{self._what} is not reached: {trouble} It is tried again and again{self._follows}.")
