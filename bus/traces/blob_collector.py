"""Attaching the weights that recorded events name to the trace, while the object store still has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from heliograph.bus.blob_sources import Uploads
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.permissions import edge_of_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

LIMIT = 1024 * 1024 * 1024
"""Largest total size of the attached blobs, in bytes."""
_MAX_WAITING = 10_000
_MAX_DEPTH = 16


class BlobCollector:
    """A background task that fetches each blob named by a message once and attaches it to the trace.

    It fetches one blob at a time, so that the recording has priority.

    Args:
        limit: largest total size in bytes; further blobs are skipped and listed in ``missing``.
    """

    def __init__(self, bus: NatsBus, writer: TraceWriter, world: World, limit: int = LIMIT) -> None:
        self._bus = bus
        self._writer = writer
        self._world = world
        self._uploads = Uploads(Port(bus, world, f"cloud/recorder/{world.new_id()}"))
        self._room = limit
        self._limit = limit
        self._seen: set[str] = set()
        self._queue: asyncio.Queue[WeightsRef] = asyncio.Queue(_MAX_WAITING)
        self._task = asyncio.create_task(self._run())
        self._scratch = TemporaryDirectory(prefix="heliograph-trace-")
        self.missing: list[str] = []
        """Blobs that are not in the trace, each with the reason."""

    def collect(self, body: bytes) -> None:
        """Queue the blobs that a message names."""
        if b"bucket" not in body:
            return
        try:
            tree = parse(body)
        except Refused:
            return
        for ref in _references(tree):
            if ref.digest in self._seen:
                continue
            self._seen.add(ref.digest)
            if ref.size > self._room:
                self._skip(ref, f"the blobs together have more than {self._limit} bytes")
                continue
            try:
                self._queue.put_nowait(ref)
                self._room -= ref.size
            except asyncio.QueueFull:
                self._skip(ref, "too many at once")

    async def finish(self) -> None:
        """Wait until every queued blob is attached or skipped."""
        await self._queue.join()

    async def close(self) -> None:
        await cancel_and_wait(self._task)
        while not self._queue.empty():
            self._skip(self._queue.get_nowait(), "the recording ended first")
        self._scratch.cleanup()

    async def _run(self) -> None:
        while True:
            ref = await self._queue.get()
            try:
                await self._attach(ref)
            except HeliographError as error:
                self._skip(ref, str(error))
                self._room += ref.size
            finally:
                self._queue.task_done()

    async def _attach(self, ref: WeightsRef) -> None:
        assert ref.bucket is not None
        edge = edge_of_bucket(ref.bucket)
        # not by opening the bucket, which would create it: a recording must not change the broker
        store = self._uploads.of(edge) if edge else await self._bus.existing_blobs(ref.bucket)
        if store is None:
            raise HeliographError(f"there is no bucket {ref.bucket}")
        target = Path(self._scratch.name) / ref.digest  # a digest is 64 hexadecimal digits
        await store.fetch(ref, target)
        data: bytes = await self._world.in_thread(target.read_bytes)
        target.unlink()
        self._writer.attach(ref.digest, data)

    def _skip(self, ref: WeightsRef, why: str) -> None:
        self.missing.append(f"{ref.digest[:12]} ({ref.size} bytes): {why}")


def _references(tree: Any, depth: int = 0) -> Iterator[WeightsRef]:
    """Yield every reference to a blob in an object store, anywhere in a document."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(tree, dict):
        if isinstance(tree.get("bucket"), str) and "digest" in tree:
            with contextlib.suppress(ValidationError):
                yield WeightsRef.model_validate({key: tree[key] for key in ("digest", "size", "bucket") if key in tree})
            return
        tree = list(tree.values())
    if isinstance(tree, list):
        for each in tree:
            yield from _references(each, depth + 1)
