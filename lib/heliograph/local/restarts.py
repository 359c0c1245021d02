"""Restarting the processes of a cluster that end by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import Process, World

BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the first, second, … restart; the last value repeats."""
STEADY_AFTER = 30.0
"""Seconds of running after which a process begins the back-off anew."""


class Started(Protocol):
    """What has a process while it runs, and can be started again."""

    process: Process | None

    async def start(self) -> None: ...


def process_of(started: Started) -> Process:
    """Return the process of what has been started."""
    assert started.process is not None
    return started.process


class Supervision:
    """Watchers that restart processes until ``stop``.

    Args:
        report: called with a line about each process that ended.
    """

    def __init__(self, world: World, report: Callable[[str], None]) -> None:
        self._world = world
        self.report = report
        self._watching: list[asyncio.Task[None]] = []

    def watch(self, name: str, running: Callable[[], Process], start: Callable[[], Awaitable[None]]) -> None:
        """Call ``start`` whenever the process that ``running`` returns has ended."""
        self._watching.append(asyncio.create_task(self._watch(name, running, start)))

    def keep(self, name: str, started: Started) -> None:
        """Start it again whenever its process has ended."""
        self.watch(name, partial(process_of, started), started.start)

    async def stop(self) -> None:
        """Stop restarting processes."""
        await cancel_and_wait(*self._watching)

    async def _watch(self, name: str, running: Callable[[], Process], start: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            began = self._world.monotonic()
            code = await running().wait()
            if self._world.monotonic() - began > STEADY_AFTER:
                failures = 0
            wait = BACKOFF[min(failures, len(BACKOFF) - 1)]
            failures += 1
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self.report(f"{name} {how}; it starts again in {wait:g} s")
            await self._world.sleep(wait)
            try:
                await start()
            except (HeliographError, OSError) as error:  # OSError: a full disk, for one
                self.report(f"{name}: {error}")
