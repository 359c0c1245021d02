"""Collect garbage: what the features give up, and then the blobs that nothing names any more.

A feature says what its resources need, and which of its own things have come to the end of their life. What is deployed
or named is never taken. A blob goes once no stored document names it, and it was stored long enough ago: whoever stores
it again makes it young, so that weights on their way to a document stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from heliograph.bus.blob_store import BlobStore, StoredBlob
from heliograph.bus.contract.buckets import DATASETS, MODELS, PACKAGES, SHARDS
from heliograph.bus.contract.garbage import LISTED, Garbage, GarbageItem
from heliograph.bus.contract.resources import Quarantine
from heliograph.bus.transport import Bus
from heliograph.coordinator.feature import InstalledFeatures
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.breaks import Breaks
from heliograph.core.failures import Failures
from heliograph.core.world import World

FIRST, EVERY = 600.0, 6 * 3600.0
"""Seconds until a coordinator that leads collects by itself first, and between two times."""
BUCKETS = (MODELS, PACKAGES, DATASETS, SHARDS)
"""The buckets whose blobs have no life of their own: what edges upload expires with its events."""
HOUR = 3600.0


class Collector:
    """Collects garbage, when asked and from time to time.

    Args:
        out: called with a line about what was deleted without a request.
    """

    def __init__(
        self, bus: Bus, store: ResourceStore, features: InstalledFeatures, lives: Lives, world: World,
        failures: Failures, out: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._bus = bus
        self._store = store
        self._features = features
        self._lives = lives
        self._world = world
        self._failures = failures
        self._out = out
        self._collecting = asyncio.Lock()

    async def run(self) -> None:
        """Collect from time to time, until cancelled."""
        await self._world.sleep(FIRST)
        while True:
            with self._failures.contain("collecting garbage"):
                found = await self.collect()
                if found.items:
                    self._out(f"garbage: {summary(found)} deleted")
            await self._world.sleep(EVERY)

    async def collect(self, dry_run: bool = False) -> Garbage:
        """Delete what has come to the end of its life, ``LISTED`` things at most; with ``dry_run`` only say what."""
        async with self._collecting:
            found = Garbage(dry_run=dry_run)
            gone: list[str] = []
            for feature in self._features:
                used = await self._used(without=feature.kind.plural)
                for each in await feature.superfluous(self._lives, used):
                    if len(found.items) == LISTED:
                        found.more = True
                        break
                    if dry_run or await each.delete():
                        gone.append(each.name)
                        found.items.append(each.item)
            if quarantines := len(self._store.all(Quarantine)):
                found.notes.append(f"blobs stay while {quarantines} documents are in quarantine, since nobody knows "
                                   "what they name; see 'heliograph get quarantines'")  # fmt: skip
            else:
                for bucket in BUCKETS:
                    await self._collect_blobs(await self._bus.blobs(bucket), gone if dry_run else (), found)
            found.size = sum(each.size for each in found.items)
            return found

    async def _used(self, gone: Sequence[str] = (), without: str = "") -> set[str]:
        """Return the digests that resources use.

        Args:
            gone: names of superfluous things that count as deleted.
            without: the plural of a feature that is passed over.
        """
        breaks, used = Breaks(self._world), set[str]()
        for feature in self._features:
            if feature.kind.plural != without:
                used |= await feature.used_blobs(gone)
                await breaks.take()
        return used

    async def _collect_blobs(self, blobs: BlobStore, gone: Sequence[str], found: Garbage) -> None:
        """Delete the blobs of a bucket that nothing names, and note each in ``found``."""
        lying = await blobs.digests()
        used, old = await self._used(gone), list[StoredBlob]()
        for digest in lying:
            if digest in used or len(old) > LISTED:
                continue
            if (blob := await blobs.about(digest)) is not None and self._is_old(blob):
                old.append(blob)
        old += filter(self._is_old, await blobs.beginnings())
        used = await self._used(gone)  # looking at each takes a while
        for blob in old:
            if blob.digest in used:
                continue
            if len(found.items) == LISTED:
                found.more = True
                return
            if found.dry_run or await blobs.discard(blob):
                found.items.append(self._item(blob))

    def _item(self, blob: StoredBlob) -> GarbageItem:
        why = "nothing names it" if blob.whole else "its upload never came to its end"
        hours = int((self._world.now() - blob.at) // HOUR)
        return GarbageItem(kind="blob" if blob.whole else "upload", name=blob.digest, size=blob.size,
                           reason=f"{why}; stored {hours} hours ago")  # fmt: skip

    def _is_old(self, blob: StoredBlob) -> bool:
        return self._world.now() - blob.at >= self._lives.blob_hours * HOUR


def summary(found: Garbage) -> str:
    """Return what was found, in numbers: ``2 versions, 5 blobs, 12.0 MB``."""
    counts: dict[str, int] = {}
    for each in found.items:
        counts[each.kind] = counts.get(each.kind, 0) + 1
    parts = [f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items()]
    return ", ".join([*parts, f"{found.size / 1e6:.1f} MB"])
