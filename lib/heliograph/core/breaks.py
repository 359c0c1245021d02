"""Breaks in a long computation: the event loop serves others between two slices of it."""

from __future__ import annotations

from heliograph.core.world import World

SLICE = 0.005
"""Seconds of computing between two breaks."""


class Breaks:
    """The breaks of one computation. In virtual time, where computing takes none, there are no breaks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._began = world.monotonic()

    @property
    def due(self) -> bool:
        """Whether the present slice has lasted long enough. Asking is cheaper than ``take``."""
        return self._world.monotonic() - self._began >= SLICE

    async def take(self) -> None:
        """Let others run if a break is due. What was read before may have changed after."""
        if self.due:
            await self._world.sleep(0)
            self._began = self._world.monotonic()
