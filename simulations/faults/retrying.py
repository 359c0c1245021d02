"""Requests through faults: repeated until they are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World

RETRY_AFTER = 0.3
"""Seconds before a request is repeated."""
T = TypeVar("T")


async def until_answered(request: Callable[[], Awaitable[T]], world: World) -> T:
    """Repeat a request until it is answered, because broker and coordinator may be down. Raise Refused."""
    while True:
        try:
            return await request()
        except Refused:
            raise
        except HeliographError:
            await world.sleep(RETRY_AFTER)
