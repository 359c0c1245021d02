"""Watch the disk of a local cluster: say that it runs full, and start brokers again that a full disk has stopped.

Once nats-server has failed to write a stream, it refuses that stream's messages until it starts again, also where the
disk has room meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from heliograph.core.world import World
from heliograph.local.disk_room import MB
from heliograph.local.nats_server import Broker

LOW = 64 * MB
"""Free bytes below which the disk is said to run full."""
ENOUGH = 96 * MB
FULL = 8 * MB
"""Free bytes below which a write may have failed between two looks."""
EVERY = 1.0
"""Seconds between two looks."""


class DiskWatch:
    """Looks at the disk of ``directory`` until cancelled.

    Args:
        report: called with a line when the disk runs full, and when it has room again.
    """

    def __init__(
        self, directory: Path, brokers: Sequence[Broker], world: World, report: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._brokers = brokers
        self._world = world
        self._report = report

    async def run(self) -> None:
        low = full = False
        while True:
            free = shutil.disk_usage(self._directory).free
            full = full or free < FULL
            if not low and free < LOW:
                low = True
                self._report(f"the disk of {self._directory} has {free // MB} MB left: make room, or nothing is stored")
            elif low and free > ENOUGH:
                low = False
                self._report(f"the disk of {self._directory} has room again: {free // MB} MB")
                if full:
                    full = False
                    for broker in self._brokers:
                        await broker.stop()  # whoever watches its process starts it again
            await self._world.sleep(EVERY)
