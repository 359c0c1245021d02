"""Delete the files of closed rounds on this node's disk. The coordinator frees their blobs in the buckets.

Each close record names all blobs of its round. So a later process can delete the files if the one that closed the round
was killed before; deleting twice does no harm.
"""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from pathlib import Path

from heliograph.bus.contract.close_record import KeptModels
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.weights_transfer import LEFTOVERS
from heliograph.core.failures import Failures
from heliograph.core.world import World
from heliograph.workers.aggregation.decoding import DECODED


class Leftovers:
    """Deletes the files of closed rounds while the next round runs.

    Args:
        updates, models: directories of this node; ``update_name`` names updates, their digest names models.
    """

    def __init__(self, world: World, updates: Path, models: Path) -> None:
        self._world = world
        self._updates = updates
        self._models = models
        self._kept = KeptModels()
        self._closed: asyncio.Queue[Aggregation] = asyncio.Queue()
        self._failures = Failures(world.say)

    def delete_soon(self, closed: Aggregation) -> None:
        """Let ``run`` delete a closed round's files."""
        self._closed.put_nowait(closed)

    async def run(self) -> None:
        """Delete until cancelled."""
        while True:
            closed = await self._closed.get()
            with self._failures.contain(f"the files of job {closed.job}, round {closed.round}"):
                await self._delete(closed)
            self._closed.task_done()

    async def wait_until_deleted(self) -> None:
        """Return once the files of all given rounds are deleted."""
        await self._closed.join()

    async def end_job(self, last: int | None = None) -> None:
        """Delete the job's remaining files, except its result, and its staged updates; ``last`` as in
        ``KeptModels``."""
        await self._drop_models(self._kept.end(last))
        await self._world.in_thread(partial(shutil.rmtree, self._updates, ignore_errors=True))

    async def _delete(self, closed: Aggregation) -> None:
        for edge, digest in sorted(closed.uploads()):
            await self._world.in_thread(_remove, self._updates / update_name(edge, digest))
        for edge, digest in sorted(closed.counted.items()):
            decoded = self._updates / (update_name(edge, digest) + DECODED)
            await self._world.in_thread(partial(decoded.unlink, missing_ok=True))
        await self._drop_models(self._kept.add(closed))

    async def _drop_models(self, digests: list[str]) -> None:
        for digest in digests:
            await self._world.in_thread(_remove, self._models / digest)


def update_name(edge: str, digest: str) -> str:
    """Return the file name of a staged update."""
    return f"{edge}-{digest}"


def _remove(file: Path) -> None:
    """Delete a file. Call it in a thread: a file system takes milliseconds for a hundred megabytes."""
    for name in [file.name + end for end in LEFTOVERS]:  # also parts of an interrupted transfer
        file.with_name(name).unlink(missing_ok=True)
