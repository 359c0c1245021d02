"""Keeping a component's parts running through the errors that pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

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
