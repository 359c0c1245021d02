"""The weights that recorded events name, taken along into the trace while they are still there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from heliograph.bus.contract.event import parse
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

LIMIT = 1024 * 1024 * 1024
"""Bytes of blobs that are taken along together."""
_WAITING = 10_000
_DEEPEST = 16


class BlobTaker:
    """Fetches each blob that a message names, once, and attaches it. One at a time: the recording goes first.

    Args:
        limit: bytes together; what would go beyond is left, and said in ``left``.
    """

    def __init__(self, bus: NatsBus, writer: TraceWriter, world: World, limit: int = LIMIT) -> None:
        self._bus = bus
        self._writer = writer
        self._world = world
        self._room = limit
        self._limit = limit
        self._seen: set[str] = set()
        self._queue: asyncio.Queue[WeightsRef] = asyncio.Queue(_WAITING)
        self._task = asyncio.create_task(self._run())
        self._scratch = TemporaryDirectory(prefix="heliograph-trace-")
        self.left: list[str] = []
        """Blobs that are not in the trace, and why."""

    def look(self, body: bytes) -> None:
        """Notes the blobs that a message names."""
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
                self._leave(ref, f"all together are more than {self._limit} bytes")
                continue
            try:
                self._queue.put_nowait(ref)
                self._room -= ref.size
            except asyncio.QueueFull:
                self._leave(ref, "too many at once")

    async def finish(self) -> None:
        """Returns when all that were noted are attached, or known not to be there."""
        await self._queue.join()

    async def close(self) -> None:
        await cancel_and_wait(self._task)
        while not self._queue.empty():
            self._leave(self._queue.get_nowait(), "the recording was ended before")
        self._scratch.cleanup()

    async def _run(self) -> None:
        while True:
            ref = await self._queue.get()
            try:
                await self._take(ref)
            except HeliographError as error:
                self._leave(ref, str(error))
                self._room += ref.size
            finally:
                self._queue.task_done()

    async def _take(self, ref: WeightsRef) -> None:
        assert ref.bucket is not None
        # asking for a store makes it where it is missing; a recording leaves the broker as it is
        store = self._bus.subjects.stream_name(ref.bucket)
        if "error" in await self._bus.connection.ask(f"$JS.API.STREAM.INFO.OBJ_{store}"):
            raise HeliographError(f"there is no bucket {ref.bucket}")
        target = Path(self._scratch.name) / ref.digest  # a digest is 64 hexadecimal digits
        await (await self._bus.blobs(ref.bucket)).fetch(ref, target)
        data: bytes = await self._world.in_thread(target.read_bytes)
        target.unlink()
        self._writer.attach(ref.digest, data)

    def _leave(self, ref: WeightsRef, why: str) -> None:
        self.left.append(f"{ref.digest[:12]} ({ref.size} bytes): {why}")


def _references(tree: Any, depth: int = 0) -> Iterator[WeightsRef]:
    """Every reference to a blob in an object store that stands anywhere in a document."""
    if depth > _DEEPEST:
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
