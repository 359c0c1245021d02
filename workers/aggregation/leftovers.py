"""What closed rounds leave behind, in the buckets and on this node's disk, and its removal.

Each close record names all that its round left. So another process can free it too, where the one that closed the round
was killed before it did; and twice does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from functools import partial
from pathlib import Path

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.close_record import KeptModels
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.core.world import World


class Leftovers:
    """Frees what closed rounds left, beside the next round: nobody waits for it.

    Args:
        updates, models: directories of this node: updates are named by ``update_name``, models by their digest.
    """

    def __init__(self, bus: Bus, world: World, updates: Path, models: Path) -> None:
        self._bus = bus
        self._world = world
        self._updates = updates
        self._models = models
        self._kept = KeptModels()
        self._closed: asyncio.Queue[Aggregation] = asyncio.Queue()

    def free(self, closed: Aggregation) -> None:
        """This round's leftovers are to go, soon."""
        self._closed.put_nowait(closed)

    async def run(self) -> None:
        while True:
            await self._free(await self._closed.get())
            self._closed.task_done()

    async def done(self) -> None:
        """Returns when all that was to go has gone."""
        await self._closed.join()

    async def end(self) -> None:
        """The job is over: its result stays."""
        await self._drop_models(self._kept.end())
        await self._world.in_thread(partial(shutil.rmtree, self._updates, ignore_errors=True))

    async def _free(self, closed: Aggregation) -> None:
        for edge, digest in sorted(closed.uploads()):
            await self._world.in_thread(_remove, self._updates / update_name(edge, digest))
            await self._delete(upload_bucket(edge), digest)
        await self._drop_models(self._kept.add(closed))

    async def _drop_models(self, digests: list[str]) -> None:
        for digest in digests:
            await self._world.in_thread(_remove, self._models / digest)
            await self._delete(MODELS, digest)

    async def _delete(self, bucket: str, digest: str) -> None:
        """A failure only leaves it: uploads go with the age of their bucket."""
        with contextlib.suppress(HeliographError):
            await (await self._bus.blobs(bucket)).delete(digest)


def update_name(edge: str, digest: str) -> str:
    """Return how the file of a staged update is called."""
    return f"{edge}-{digest}"


def _remove(file: Path) -> None:
    """In a thread: to free a hundred megabytes takes a file system milliseconds."""
    for name in (file.name, f"{file.name}.part", f"{file.name}.place"):  # also of a transfer that was cut
        file.with_name(name).unlink(missing_ok=True)
