"""Keys whose state is to be reconciled: each once however often it is added, a few at a time, later after a failure."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from heliograph.core.backoff import Backoff
from heliograph.core.errors import HeliographError, first_error
from heliograph.core.failures import Failures
from heliograph.core.tasks import wait_for
from heliograph.core.world import World

K = TypeVar("K", bound=Hashable)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Ceilings of the pauses before a key that failed is tried again, in seconds; they double with each failure."""


class WorkQueue(Generic[K]):
    """Calls ``handle`` with each added key. A key that is added while it is handled is handled again.

    Args:
        handle: reconciles one key. After an error it is called again, later and later.
        about: describes a key in a warning.
    """

    def __init__(
        self, handle: Callable[[K], Awaitable[None]], about: Callable[[K], str], world: World, failures: Failures
    ) -> None:
        self._handle = handle
        self._about = about
        self._world = world
        self._failures = failures
        self._due: dict[K, float] = {}
        self._order: list[tuple[float, int, K]] = []
        self._count = 0
        self._handled: set[K] = set()
        self._again: dict[K, float] = {}
        """Keys that were added while they were handled, and when they are due."""
        self._pauses: dict[K, Backoff] = {}
        self._wake = asyncio.Event()

    def add(self, key: K, after: float = 0.0) -> None:
        """Let a key be handled after some seconds; sooner where it is due sooner."""
        due = self._world.monotonic() + after
        if key in self._handled:
            self._again[key] = min(due, self._again.get(key, due))
            return
        if (known := self._due.get(key)) is not None and known <= due:
            return
        self._due[key] = due
        self._count += 1
        heapq.heappush(self._order, (due, self._count, key))
        self._wake.set()

    async def run(self, at_once: int) -> None:
        """Handle keys until cancelled, at most ``at_once`` at the same time."""
        free = asyncio.Semaphore(at_once)
        async with asyncio.TaskGroup() as group:
            while True:
                await free.acquire()
                key = await self._next()
                self._handled.add(key)
                group.create_task(self._handle_one(key)).add_done_callback(lambda _: free.release())

    async def _next(self) -> K:
        while True:
            self._wake.clear()
            while self._order and self._due.get(self._order[0][2]) != self._order[0][0]:
                heapq.heappop(self._order)  # it became due sooner, and has been handled
            if not self._order:
                await self._wake.wait()
                continue
            wait = self._order[0][0] - self._world.monotonic()
            if wait > 0:
                await wait_for(self._wake, wait)
                continue
            key = heapq.heappop(self._order)[2]
            del self._due[key]
            return key

    async def _handle_one(self, key: K) -> None:
        failed = False
        try:
            await self._handle(key)
        except Exception as error:
            failed = True
            if not isinstance(first_error(error), HeliographError) or key in self._pauses:
                self._failures.add(self._about(key), error)  # the first failure is often a race that is lost once
        self._handled.discard(key)
        again = self._again.pop(key, None)
        if failed:
            if key not in self._pauses:
                self._pauses[key] = Backoff(self._world.rng.random, FIRST_PAUSE, LONGEST_PAUSE)
            self.add(key, self._pauses[key].next())
            return
        self._pauses.pop(key, None)
        if again is not None:
            self.add(key, max(0.0, again - self._world.monotonic()))
