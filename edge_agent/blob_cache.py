"""Files of the cloud on this node, named by their digest: fetched once, proven, and deleted when nothing names them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import ClassVar

from heliograph.bus.blob_sources import CloudBlobs
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import sentence_of
from heliograph.core.names import is_digest
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

RETRY = 0.2
"""Seconds before a failed fetch is resumed."""
RETRY_DISK = 2.0
"""Seconds before a fetch that failed on the disk is resumed, from the chunk that failed."""


class BlobCache(ABC):
    """Blobs on this node's disk; a subclass says how one comes, how it is proven, and what it leaves.

    Args:
        changed: called when a blob has arrived.
        failed: called with a line about a failed fetch, which is tried again.
    """

    what: ClassVar[str]
    """What a blob is, for lines about it."""

    def __init__(
        self, directory: Path, cloud: CloudBlobs, world: World, changed: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._cloud = cloud
        self._world = world
        self._changed = changed
        self._failed = failed
        self._fetching: dict[str, asyncio.Task[None]] = {}
        lying = [path.name for path in directory.iterdir()]
        self._named = {name.split(".")[0] for name in lying}
        self._unproven = set(filter(is_digest, lying))
        """Blobs of earlier starts: each is proven again when a task names it first. Release 0.1 laid down any bytes,
        and a disk may have damaged them."""
        self._refused: dict[str, WeightsRef] = {}
        """References whose blobs are not what a task needs, by digest: another attempt would bring the same bytes."""
        self.failures: dict[str, str] = {}
        """The reason why a blob is not here yet, by its digest."""

    def path(self, ref: WeightsRef) -> Path:
        return self.directory / ref.digest

    def __contains__(self, digest: object) -> bool:
        """Return whether the whole blob of that digest is here, and proven."""
        return is_digest(digest) and digest not in self._unproven and (self.directory / str(digest)).exists()

    def is_refused(self, ref: WeightsRef) -> bool:
        """Return whether the blob of a reference was fetched, and is not what a task needs."""
        return self._refused.get(ref.digest) == ref

    def fetch(self, ref: WeightsRef) -> None:
        """Start fetching a blob, unless it is here, on its way, or refused."""
        if ref.digest in self._fetching or self.is_refused(ref):
            return
        if ref.digest not in self:
            self._fetching[ref.digest] = asyncio.create_task(self._fetch(ref))

    def keep_only(self, digests: Collection[str]) -> None:
        """Delete other blobs that were named before, or lay here at the start."""
        for digest in sorted(self._named - set(digests)):
            if running := self._fetching.pop(digest, None):
                running.cancel()
            self.failures.pop(digest, None)
            self._refused.pop(digest, None)
            self._unproven.discard(digest)
            self._delete(digest)
        self._named = set(digests)

    async def close(self) -> None:
        await cancel_and_wait(*self._fetching.values())

    @abstractmethod
    async def _bring(self, ref: WeightsRef) -> None:
        """Bring a blob to its path, proven. Raise Refused where it is not what a task needs, Unreachable where it
        cannot be had now, OSError where the disk has no room for it."""

    @abstractmethod
    def _check(self, ref: WeightsRef) -> None:
        """Prove a blob that lies here. Raise Refused or OSError. Blocks."""

    @abstractmethod
    def _delete(self, digest: str) -> None:
        """Delete all that was fetched of a blob."""

    async def _fetch(self, ref: WeightsRef) -> None:
        if ref.digest in self._unproven and await self._prove(ref):
            self._fetching.pop(ref.digest, None)
            self._changed()
            return
        while True:
            await self._cloud.link.wait_up()
            try:
                await self._bring(ref)
            except Refused as error:
                self._refused[ref.digest] = ref
                self._fetching.pop(ref.digest, None)
                self._note(ref, f"{self.what} {ref.digest[:12]}: {error}")
                return
            except Exception as error:  # a defect too: else the blob would count as on its way for ever
                expected = isinstance(error, (HeliographError, OSError))
                why = error if expected else sentence_of(error)
                self._note(ref, f"{self.what} {ref.digest[:12]}: {why}; trying again")
                await self._world.sleep(RETRY if isinstance(error, HeliographError) else RETRY_DISK)
            else:
                break
        self._fetching.pop(ref.digest, None)
        self.failures.pop(ref.digest, None)
        self._changed()

    async def _prove(self, ref: WeightsRef) -> bool:
        """Return whether the blob of an earlier start is what its name says; delete another one."""
        try:
            await self._world.in_thread(self._check, ref)
        except (Refused, OSError) as error:
            self._delete(ref.digest)
            if not isinstance(error, FileNotFoundError):
                line = f"{self.what} {ref.digest[:12]} on this disk was not what its name says: {error}; it is fetched"
                self._failed(line)
            return False
        finally:
            self._unproven.discard(ref.digest)
        return True

    def _note(self, ref: WeightsRef, line: str) -> None:
        """Show why a blob is not here, and log it once."""
        if self.failures.get(ref.digest) != line:
            self.failures[ref.digest] = line
            self._failed(line)
            self._changed()
