"""Watch what the kernel does not bound while workers run: the disk that they fill, and root's processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import SitePolicy
from heliograph.edge_agent.confinement.task_count import tasks_by_group

EVERY = 0.5
"""Seconds between two looks, while a worker runs."""
MB = 1 << 20
LEAST = 16 * MB
"""Bytes of a worker's files below which it is not the one that has filled the disk."""
MAX_FILES = 1_000_000


@dataclass
class WatchedWorker:
    """A worker that runs.

    Attributes:
        group: its process group.
        own: the directories in which it writes.
        why: why it was ended by the watch; empty where it was not.
    """

    group: int
    own: Sequence[Path]
    why: str = ""


class WorkerWatch:
    """Ends workers that go beyond the site policy.

    Args:
        disk: a directory on the disk where workers write.
        counts: whether processes are counted.
    """

    def __init__(
        self, policy: SitePolicy, disk: Path, counts: bool, world: World,
        free: Callable[[Path], int] = lambda disk: shutil.disk_usage(disk).free,
    ) -> None:  # fmt: skip
        self._policy = policy
        self._disk = disk
        self._counts = counts
        self._world = world
        self._free = free
        self._workers: list[WatchedWorker] = []
        self._watching: asyncio.Task[None] | None = None

    def add(self, worker: WatchedWorker) -> None:
        """Watch a worker until it is removed."""
        self._workers.append(worker)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def remove(self, worker: WatchedWorker) -> None:
        self._workers.remove(worker)
        if not self._workers and self._watching is not None:
            watching, self._watching = self._watching, None
            await cancel_and_wait(watching)

    async def _watch(self) -> None:
        while True:
            await self._world.sleep(EVERY)
            with contextlib.suppress(OSError):
                await self._world.in_thread(self._look)

    def _look(self) -> None:
        """Look once, and end who goes beyond; called in a thread."""
        watched = [each for each in self._workers if not each.why]
        if self._counts:
            numbers = tasks_by_group()
            for each in watched:
                if (number := numbers.get(each.group, 0)) > self._policy.processes:
                    _end(each, f"had {number} processes and threads, more than the {self._policy.processes} that the "
                               "site policy allows a worker")  # fmt: skip
        if self._free(self._disk) < self._policy.keep_free_mb * MB and watched:
            size, most = max(((sum(map(_size, each.own)), each) for each in watched), key=lambda found: found[0])
            if size >= LEAST and not most.why:
                _end(most, f"has written {size // MB} MB below {most.own[-1]}, and left less than "
                           f"{self._policy.keep_free_mb} MB of the disk: delete what is not needed there")  # fmt: skip


def _end(worker: WatchedWorker, why: str) -> None:
    worker.why = why
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.group, signal.SIGKILL)


def _size(directory: Path) -> int:
    """Return the bytes on disk of the files below a directory."""
    found, left, waiting = 0, MAX_FILES, [str(directory)]
    while waiting and left:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                left -= 1
                if not left:
                    break
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        found += entry.stat(follow_symlinks=False).st_blocks * 512
    return found
