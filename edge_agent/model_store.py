"""The node's models: files named by their digest, fetched as soon as a task or a closed round names them, proven to be
safetensors, and deleted once neither names them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.transport import Bus
from heliograph.bus.weights_transfer import LEFTOVERS, fetch_weights
from heliograph.core.errors import HeliographError, Refused
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
        self._named = {path.name.split(".")[0] for path in directory.iterdir()}
        self._refused: dict[str, WeightsRef] = {}
        """References whose blobs are no such weights, by digest: another attempt would bring the same bytes."""
        self.failures: dict[str, str] = {}
        """The reason why a model is not here yet, by its digest."""

    def path(self, ref: WeightsRef) -> Path:
        return self.directory / ref.digest

    def __contains__(self, digest: object) -> bool:
        """Return whether the whole model of that digest is here."""
        return is_digest(digest) and (self.directory / str(digest)).exists()

    def fetch(self, ref: WeightsRef) -> None:
        """Start fetching a model, unless it is here, on its way, or refused."""
        if ref.digest in self._fetching or self._refused.get(ref.digest) == ref:
            return
        if not self.path(ref).exists():
            self._fetching[ref.digest] = asyncio.create_task(self._fetch(ref))

    def keep_only(self, digests: Collection[str]) -> None:
        """Delete other models that were named before, or lay here at the start. Leave the files of the aggregation
        worker: it deletes its own."""
        for digest in sorted(self._named - set(digests)):
            if running := self._fetching.pop(digest, None):
                running.cancel()
            self.failures.pop(digest, None)
            self._refused.pop(digest, None)
            for end_of_name in LEFTOVERS:
                (self.directory / f"{digest}{end_of_name}").unlink(missing_ok=True)
        self._named = set(digests)

    async def close(self) -> None:
        await cancel_and_wait(*self._fetching.values())

    async def _fetch(self, ref: WeightsRef) -> None:
        while True:
            await self._bus.link.wait_up()
            try:
                await fetch_weights(self._bus, ref, self.path(ref), self._world)
            except Refused as error:
                self._refused[ref.digest] = ref
                self._fetching.pop(ref.digest, None)
                self._note(ref, f"model {ref.digest[:12]}: {error}")
                return
            except (HeliographError, OSError) as error:
                self._note(ref, f"model {ref.digest[:12]}: {error}; trying again")
                await self._world.sleep(RETRY_DISK if isinstance(error, OSError) else RETRY)
            else:
                break
        self._fetching.pop(ref.digest, None)
        self.failures.pop(ref.digest, None)
        self._changed()

    def _note(self, ref: WeightsRef, line: str) -> None:
        """Show why a model is not here, and log it once."""
        if self.failures.get(ref.digest) != line:
            self.failures[ref.digest] = line
            self._failed(line)
            self._changed()
