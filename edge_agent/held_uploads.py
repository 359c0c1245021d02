"""What this node has made for the cloud, as files on its disk: kept across restarts until the cloud needs it no longer.

Each file is named by its digest and by a hash of its job's uid. Bounded in bytes and age: the oldest goes first, and
its event is then refused in the cloud, or late.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.contract.buckets import UPLOADS_MAX
from heliograph.bus.contract.topics import DAY
from heliograph.core.names import is_digest
from heliograph.core.private_files import make_private
from heliograph.core.tasks import Flag
from heliograph.core.world import World

MAX_AGE = 7 * DAY
"""Seconds for which an upload is kept at most, as long as the stream keeps the event that names it."""
GONE_AFTER = 600.0
"""Seconds for which an upload stays whose job asks this node for nothing: it may be on its way to the cloud."""
EVERY = 60.0
"""Seconds between two looks at what has come to its end."""
_JOB = 16
"""Characters of the hash of a job's uid in a file's name."""


@dataclass(frozen=True)
class _Held:
    path: Path
    job: str
    size: int
    since: float


class HeldUploads:
    """Files in ``directory``.

    Args:
        warn: called with a line about what was deleted although the cloud may not have it.
        most: bytes of all files, at most.
    """

    def __init__(
        self, directory: Path, world: World, warn: Callable[[str], None], most: int = UPLOADS_MAX
    ) -> None:
        self._directory = directory
        self._world = world
        self._warn = warn
        self._most = most
        self._asked: dict[str, float] = {}
        """Hash of each job with an upload here to the time at which the job last asked this node for something."""
        self._held: dict[str, _Held] = {}
        """By digest, the oldest first."""
        self._holding = Flag()
        lying = directory.iterdir() if directory.is_dir() else ()
        for path in sorted(lying, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            digest, _, job = path.name.partition(".")
            if is_digest(digest) and len(job) == _JOB:
                found = path.stat()
                self._held[digest] = _Held(path, job, found.st_size, found.st_mtime)
            else:
                path.unlink()  # it was on its way here when the agent was killed
        if self._held:
            self._holding.set()

    def find(self, digest: str) -> Path | None:
        """Return the file of a digest; None where it is not held."""
        held = self._held.get(digest)
        return held.path if held is not None else None

    async def hold(self, digest: str, job_uid: str, file: Path) -> None:
        """Take a file over; it has been proven."""
        make_private(self._directory)
        job = _hash(job_uid)
        held = _Held(self._directory / f"{digest}.{job}", job, file.stat().st_size, self._world.now())
        try:
            _name(file, held.path, held.since)
        except OSError:  # another file system
            await self._world.in_thread(_copy, file, held.path, held.since)
        self._asked[job] = held.since
        before = self._held.pop(digest, None)
        self._held[digest] = held
        self._holding.set()
        if before is not None and before.path != held.path:  # two jobs have made the same bytes
            await self._world.in_thread(_unlink, [before.path])
        await self._make_room()

    async def settle(self, digests: Iterable[str]) -> None:
        """Delete files that the cloud needs no longer."""
        await self._delete([digest for digest in digests if digest in self._held])

    def follow(self, job_uids: Collection[str]) -> None:
        """Note the jobs that ask this node for something now."""
        if self._held:
            now = self._world.now()
            self._asked |= {job: now for job in map(_hash, job_uids) if job in self._asked}

    async def run(self) -> None:
        """Delete what has come to its end, until cancelled."""
        while True:
            await self._holding.wait()
            now = self._world.now()
            jobs = dict.fromkeys(each.job for each in self._held.values())
            self._asked = {job: self._asked.get(job, now) for job in jobs}
            gone = [digest for digest, each in self._held.items() if now - self._asked[each.job] > GONE_AFTER]
            old = [digest for digest, each in self._held.items() if now - each.since > MAX_AGE and digest not in gone]
            await self._delete(gone)
            if old:
                self._warn(f"{len(old)} uploads were deleted after {MAX_AGE / DAY:g} days: the cloud has not asked for "
                           "them")  # fmt: skip
                await self._delete(old)
            if not self._held:
                self._holding.clear()
            await self._world.sleep(EVERY)

    async def _make_room(self) -> None:
        over = sum(each.size for each in self._held.values()) - self._most
        oldest = []
        for digest, each in list(self._held.items())[:-1]:
            if over > 0:
                oldest.append(digest)
                over -= each.size
        if oldest:
            self._warn(f"{len(oldest)} uploads were deleted to make room for newer ones: together they may have "
                       f"{self._most} bytes")  # fmt: skip
            await self._delete(oldest)

    async def _delete(self, digests: Collection[str]) -> None:
        paths = [self._held.pop(digest).path for digest in digests]
        if paths:
            await self._world.in_thread(_unlink, paths)


def _hash(job_uid: str) -> str:
    return hashlib.sha256(job_uid.encode()).hexdigest()[:_JOB]


def _name(file: Path, target: Path, now: float) -> None:
    file.rename(target)
    os.utime(target, (now, now))


def _copy(file: Path, target: Path, now: float) -> None:
    arriving = target.with_name(f"{target.name}.part")
    shutil.copyfile(file, arriving)
    _name(arriving, target, now)


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
