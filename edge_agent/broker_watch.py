"""Tell when the node's broker is away: KubeEdge's need not come back after a restart without the cloud, and without it
the agent hears neither devices nor workers."""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.link import Link
from heliograph.core.errors import HeliographError
from heliograph.core.failures import sentence_of

GRACE = 5.0
"""Seconds without the broker until it is told of: a broker that starts again is not worth a line."""


class BrokerWatch:
    """Follows a link, and says once when it is down for longer than ``GRACE``, and once when it is back.

    Args:
        broker: the broker's address, without a login.
    """

    def __init__(self, link: Link, broker: str, warn: Callable[[str], None], info: Callable[[str], None]) -> None:
        self._link = link
        self._broker = broker
        self._warn = warn
        self._info = info

    async def run(self) -> None:
        """Follow the link until cancelled."""
        while True:
            try:
                await self._link.wait_up(GRACE)
            except HeliographError as error:
                self._warn(
                    f"the node's broker at {self._broker} is away: {sentence_of(error)}; devices and workers of this"
                    " node are not heard until it is back"
                )
                await self._link.wait_up()
                self._info(f"the node's broker at {self._broker} is back")
            await self._link.wait_down()
