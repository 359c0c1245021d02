"""The node's models: files named by their digest, fetched as soon as a task or a closed round names them, proven to be
safetensors, and deleted once neither names them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_header import check_file
from heliograph.bus.transport import Bus
from heliograph.bus.weights_transfer import LEFTOVERS, fetch_weights
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import sentence_of
from heliograph.core.names import is_digest
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

RETRY = 0.2
"""Seconds before a failed fetch is resumed."""
RETRY_DISK = 2.0
"""Seconds before a fetch that failed on the disk is resumed, from the chunk that failed."""


class ModelStore:
    """Models on this node's disk.

    Args:
        changed: called when a model has arrived.
        failed: called with a line about a failed fetch, which is tried again.
    """

    def __init__(
        self, directory: Path, bus: Bus, world: World, changed: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._bus = bus
        self._world = world
        self._changed = changed
        self._failed = failed
        self._fetching: dict[str, asyncio.Task[None]] = {}
        lying = [path.name for path in directory.iterdir()]
        self._named = {name.split(".")[0] for name in lying}
        self._unproven = set(filter(is_digest, lying))
        """Files of earlier starts: each is proven again when a task names it first. Release 0.1 laid down any bytes,
        and a disk may have damaged them."""
        self._refused: dict[str, WeightsRef] = {}
        """References whose blobs are no such weights, by digest: another attempt would bring the same bytes."""
        self.failures: dict[str, str] = {}
        """The reason why a model is not here yet, by its digest."""

    def path(self, ref: WeightsRef) -> Path:
        return self.directory / ref.digest

    def __contains__(self, digest: object) -> bool:
        """Return whether the whole model of that digest is here, and proven."""
        return is_digest(digest) and digest not in self._unproven and (self.directory / str(digest)).exists()

    def fetch(self, ref: WeightsRef) -> None:
        """Start fetching a model, unless it is here, on its way, or refused."""
        if ref.digest in self._fetching or self._refused.get(ref.digest) == ref:
            return
        if ref.digest not in self:
            self._fetching[ref.digest] = asyncio.create_task(self._fetch(ref))

    def keep_only(self, digests: Collection[str]) -> None:
        """Delete other models that were named before, or lay here at the start. Leave the files of the aggregation
        worker: it deletes its own."""
        for digest in sorted(self._named - set(digests)):
            if running := self._fetching.pop(digest, None):
                running.cancel()
            self.failures.pop(digest, None)
            self._refused.pop(digest, None)
            self._unproven.discard(digest)
            for end_of_name in LEFTOVERS:
                (self.directory / f"{digest}{end_of_name}").unlink(missing_ok=True)
        self._named = set(digests)

    async def close(self) -> None:
        await cancel_and_wait(*self._fetching.values())

    async def _fetch(self, ref: WeightsRef) -> None:
        if ref.digest in self._unproven and await self._prove(ref):
            self._fetching.pop(ref.digest, None)
            self._changed()
            return
        while True:
            await self._bus.link.wait_up()
            try:
                await fetch_weights(self._bus, ref, self.path(ref), self._world)
            except Refused as error:
                self._refused[ref.digest] = ref
                self._fetching.pop(ref.digest, None)
                self._note(ref, f"model {ref.digest[:12]}: {error}")
                return
            except Exception as error:  # a defect too: else the model would count as on its way for ever
                expected = isinstance(error, (HeliographError, OSError))
                self._note(ref, f"model {ref.digest[:12]}: {error if expected else sentence_of(error)}; trying again")
                await self._world.sleep(RETRY if isinstance(error, HeliographError) else RETRY_DISK)
            else:
                break
        self._fetching.pop(ref.digest, None)
        self.failures.pop(ref.digest, None)
        self._changed()

    async def _prove(self, ref: WeightsRef) -> bool:
        """Return whether the file of an earlier start is what its name says; delete another one."""
        path = self.path(ref)
        try:
            await self._world.in_thread(check_file, path, ref, True)
        except (Refused, OSError) as error:
            path.unlink(missing_ok=True)
            if not isinstance(error, FileNotFoundError):
                self._failed(f"model {ref.digest[:12]} on this disk was not what its name says: {error}; it is fetched")
            self._unproven.discard(ref.digest)
            return False
        self._unproven.discard(ref.digest)
        return True

    def _note(self, ref: WeightsRef, line: str) -> None:
        """Show why a model is not here, and log it once."""
        if self.failures.get(ref.digest) != line:
            self.failures[ref.digest] = line
            self._failed(line)
            self._changed()
