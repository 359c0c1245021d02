"""Reconciles once for all who asked: the more edges there are, the more it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from heliograph.core.world import World

SECONDS_PER_EDGE = 20e-6
"""Between two reconciles, for each edge: ten thousand edges' reports cannot each be acted on alone."""


class ReconcileScheduler:
    """Runs ``reconcile`` when asked to; never two at once.

    Args:
        edges: how many edges are known.
    """

    def __init__(self, reconcile: Callable[[], Awaitable[None]], world: World, edges: Callable[[], int]) -> None:
        self._reconcile = reconcile
        self._world = world
        self._edges = edges
        self._asked = asyncio.Event()
        self._next: asyncio.Future[None] | None = None

    def ask(self) -> None:
        """There is something new."""
        self._asked.set()

    async def wait(self) -> None:
        """Return when all that is new now has been acted on."""
        self._asked.set()
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)

    async def run(self) -> None:
        """Until cancelled. An error of ``reconcile`` is raised, also to whoever waits for it."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            waiting, self._next = self._next, None
            try:
                await self._reconcile()
            except BaseException as error:
                if waiting is not None and not waiting.done():
                    waiting.set_exception(error)
                    waiting.exception()  # perhaps nobody waits any more
                self._asked.set()
                raise
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            await self._world.sleep(self._edges() * SECONDS_PER_EDGE)
