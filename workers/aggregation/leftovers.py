"""Free the blobs of closed rounds, in the buckets and on this node's disk.

Each close record names all blobs of its round. So a later process can free them if the one that closed the round was
killed before; freeing twice does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from functools import partial
from pathlib import Path

from heliograph.bus.blob_sources import Uploads
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.close_record import KeptModels
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.port import Port
from heliograph.bus.weights_transfer import LEFTOVERS
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures


class Leftovers:
    """Frees the blobs of closed rounds while the next round runs.

    Args:
        updates, models: directories of this node; ``update_name`` names updates, their digest names models.
    """

    def __init__(self, port: Port, uploads: Uploads, updates: Path, models: Path) -> None:
        self._bus = port.bus
        self._world = port.world
        self._uploads = uploads
        self._updates = updates
        self._models = models
        self._kept = KeptModels()
        self._closed: asyncio.Queue[Aggregation] = asyncio.Queue()
        self._failures = Failures(port.world.say)

    def free_soon(self, closed: Aggregation) -> None:
        """Let ``run`` free a closed round's blobs."""
        self._closed.put_nowait(closed)

    async def run(self) -> None:
        """Free until cancelled."""
        while True:
            closed = await self._closed.get()
            with self._failures.contain(f"the blobs of job {closed.job}, round {closed.round}"):
                await self._free(closed)
            self._closed.task_done()

    async def wait_until_freed(self) -> None:
        """Return once the blobs of all given rounds are freed."""
        await self._closed.join()

    async def end_job(self, last: int | None = None) -> None:
        """Free the job's remaining blobs, except its result, and its staged updates; ``last`` as in ``KeptModels``."""
        await self._drop_models(self._kept.end(last))
        await self._world.in_thread(partial(shutil.rmtree, self._updates, ignore_errors=True))

    async def _free(self, closed: Aggregation) -> None:
        for edge, digest in sorted(closed.uploads()):
            await self._world.in_thread(_remove, self._updates / update_name(edge, digest))
            with contextlib.suppress(HeliographError):  # the bucket deletes uploads by age
                await self._uploads.free(edge, digest)
        await self._drop_models(self._kept.add(closed))

    async def _drop_models(self, digests: list[str]) -> None:
        for digest in digests:
            await self._world.in_thread(_remove, self._models / digest)
            with contextlib.suppress(HeliographError):  # the coordinator collects it
                await (await self._bus.blobs(MODELS)).delete(digest)


def update_name(edge: str, digest: str) -> str:
    """Return the file name of a staged update."""
    return f"{edge}-{digest}"


def _remove(file: Path) -> None:
    """Delete a file. Call it in a thread: a file system takes milliseconds for a hundred megabytes."""
    for name in [file.name + end for end in LEFTOVERS]:  # also parts of an interrupted transfer
        file.with_name(name).unlink(missing_ok=True)
