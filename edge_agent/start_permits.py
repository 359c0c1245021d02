"""Permits to start a worker, shared by the agents of one machine: a start loads a framework, which takes a core and
memory, and many starts at once would starve everything else.

A permit is a locked file. The worker inherits the lock, and gives it up once its script has loaded. The lock ends with
the worker, too, so that nobody has to remember who holds which permit.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from heliograph.core.cores import usable_cores
from heliograph.core.private_files import write_private
from heliograph.core.world import World

POLL, MAX_POLL = 0.1, 0.5
"""Seconds between two attempts to get a permit, at first and at most: a hundred agents may wait at once."""
LEAST = 2
"""Permits on the smallest machine: one worker that is slow to start does not hold up the others."""
SPARE_MEMORY = 256 << 20
"""Bytes of free memory that a start needs; a sixteenth of the memory on a small machine."""
_MEMORY = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


class StartPermits:
    """The permits in ``directory``, as many as this process may use cores.

    Args:
        directory: a directory that the agents of one machine share.
        shared: whether other agents use it too, and start the same programs: what their workers offer is then found out
            once, since that is a start as well.
    """

    def __init__(self, directory: Path, world: World, *, shared: bool = False, cores: int | None = None) -> None:
        self._directory = directory
        self._offers = directory / "offers" if shared else None
        self._world = world
        self._count = max(LEAST, cores or usable_cores())
        self._turn = asyncio.Lock()

    async def take(self) -> int:
        """Wait for a permit, in the order of the calls, and for free memory. Return its file descriptor, to be closed
        once the worker has inherited it. Raise OSError where the directory cannot be written to."""
        self._directory.mkdir(parents=True, exist_ok=True)
        pause, said = POLL, False
        async with self._turn:
            while True:
                if (permit := self._free_one()) is not None:
                    if not (missing := missing_memory()):
                        return permit
                    os.close(permit)
                    if not said:
                        self._world.say(f"warning: a worker waits for memory, {missing >> 20} MB are missing")
                        said = True
                await self._world.sleep(pause * (1 + self._world.rng.random()))
                pause = min(1.2 * pause, MAX_POLL)

    def known_offers(self) -> bytes | None:
        """Return the offers that another agent has shared."""
        with contextlib.suppress(OSError):
            if self._offers is not None:
                return self._offers.read_bytes()
        return None

    def share_offers(self, text: bytes) -> None:
        """Let the other agents know what the workers of this machine offer."""
        if self._offers is not None:
            with contextlib.suppress(OSError):
                write_private(self._offers, text.decode())

    def _free_one(self) -> int | None:
        for number in range(self._count):
            permit = os.open(self._directory / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(permit, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(permit)
            else:
                return permit
        return None


def missing_memory(memory: Path = _MEMORY, container: Path = _CONTAINER) -> int:
    """Return the bytes of memory that another start misses on this machine, or in its container; 0 if none or unknown.

    Args:
        memory: Linux's ``/proc/meminfo``.
        container: directory of the control group (version 2) whose limit a container has.
    """
    missing = (min(SPARE_MEMORY, total // 16) - free for total, free in _memories(memory, container))
    return max(0, *missing, 0)


def total_memory(memory: Path = _MEMORY, container: Path = _CONTAINER) -> int:
    """Return the bytes of memory that this machine, or its container, has; 0 where nobody knows."""
    return min((total for total, _ in _memories(memory, container)), default=0)


def free_memory(memory: Path = _MEMORY, container: Path = _CONTAINER) -> int:
    """Return the bytes of memory that a further process could have here; 0 where nobody knows."""
    return max(0, min((free for _, free in _memories(memory, container)), default=0))


def _memories(memory: Path, container: Path) -> Iterator[tuple[int, int]]:
    """Yield total and free bytes of machine and container, as far as they are known."""
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        lines = dict(line.split(":", 1) for line in memory.read_text().splitlines())
        yield int(lines["MemTotal"].split()[0]) << 10, int(lines["MemAvailable"].split()[0]) << 10
    with contextlib.suppress(OSError, ValueError, KeyError):  # ValueError: no limit, "max"
        limit, used = (int((container / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split(" ", 1) for line in (container / "memory.stat").read_text().splitlines())
        yield limit, limit - used + int(counts["inactive_file"]) + int(counts["active_file"])  # caches make room
