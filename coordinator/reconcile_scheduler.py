"""Bundles requests to reconcile: one pass serves all of them, since a pass costs more the more edges there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from heliograph.core.world import World

SECONDS_PER_EDGE = 20e-6
"""Pause between two passes, for each edge: ten thousand edges' reports cannot each have a pass of their own."""


class ReconcileScheduler:
    """Runs ``reconcile`` on request, never two at once.

    Args:
        edges: returns the number of known edges.
    """

    def __init__(self, reconcile: Callable[[], Awaitable[None]], world: World, edges: Callable[[], int]) -> None:
        self._reconcile = reconcile
        self._world = world
        self._edges = edges
        self._requested = asyncio.Event()
        self._next: asyncio.Future[None] | None = None

    def request(self) -> None:
        """Ask for a pass, and do not wait for it."""
        self._requested.set()

    async def request_and_wait(self) -> None:
        """Ask for a pass, and return when one that began after this call is done. Raise its error."""
        self._requested.set()
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)

    async def run(self) -> None:
        """Reconcile until cancelled. Raise an error of ``reconcile``, also in ``request_and_wait``."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            waiting, self._next = self._next, None
            try:
                await self._reconcile()
            except BaseException as error:
                if waiting is not None and not waiting.done():
                    waiting.set_exception(error)
                    waiting.exception()  # mark it as read: perhaps nobody waits any more
                self._requested.set()
                raise
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            await self._world.sleep(self._edges() * SECONDS_PER_EDGE)
