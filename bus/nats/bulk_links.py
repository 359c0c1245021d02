"""The bulk connections of one bus: each transfer has one and a thread, and the next transfer reuses the connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.link_pace import LinkPace
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.bus.nats.bulk import BulkLink

IDLE = 1.2
"""Seconds for which an idle connection is kept for the next transfer; soon after, the broker would miss its pongs."""


class BulkLinks:
    """Lends connections to transfers."""

    def __init__(self, url: ConnectionUrl, world: World, pace: LinkPace) -> None:
        self._url = url
        self._pace = pace
        self._world = world
        self._idle: list[BulkLink] = []
        self._closing: asyncio.TimerHandle | None = None

    async def run(self, transfer: Callable[..., None], *args: Any) -> None:
        """Run ``transfer(link, *args, stop)`` in a thread. A cancellation sets ``stop``, and the thread ends at its
        next chunk."""
        stop = threading.Event()
        link = self._idle.pop() if self._idle else None
        running = asyncio.ensure_future(self._world.in_own_thread(self._transfer, link, transfer, *args, stop))
        try:
            self._idle.append(await asyncio.shield(running))
        except asyncio.CancelledError:
            stop.set()
            running.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody awaits it
            raise
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(IDLE, self._close_idle)

    def close(self) -> None:
        """Close the idle connections."""
        if self._closing is not None:
            self._closing.cancel()
        self._close_idle()

    def _transfer(self, link: BulkLink | None, transfer: Callable[..., None], *args: Any) -> BulkLink:
        if link is not None and not link.alive:
            link.close()
            link = None
        if link is None:
            from heliograph.bus.nats.bulk import BulkLink

            link = BulkLink(self._url, "", self._pace, self._world)
        link.begin()
        try:
            transfer(link, *args)
        except BaseException:
            link.close()
            raise
        return link

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
