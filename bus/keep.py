"""Keeping a component's parts running through the errors that pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from heliograph.bus.errors import HeliographError
from heliograph.bus.world import World

AGAIN = 0.2


async def keep_running(part: Callable[[], Awaitable[None]], world: World, warn: Callable[[str], None]) -> None:
    """Runs ``part`` again after an expected error (a broker away, a refused permission), each said once."""
    said = ""
    while True:
        try:
            await part()
            return
        except HeliographError as error:
            if str(error) != said:
                said = str(error)
                warn(said)
            await world.sleep(AGAIN)


class Background:
    """Tasks that nobody awaits: held while they run, their expected errors said, all cancelled at the end."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guarded(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except HeliographError as error:
            self._warn(str(error))
