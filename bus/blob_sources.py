"""Blobs across the border between an edge and the cloud, without rights to a store: whoever needs one asks its holder
for chunks, on topics of the edge alone.

An edge asks the cloud, and the cloud's broker sends from the bucket. The cloud asks an edge for an upload that lies on
the edge's disk. Chunks go to an address that is made of the edge's name and of the transfer's id.
"""

from __future__ import annotations

from pathlib import Path

from heliograph.bus.arriving_blob import CHUNK, Check, ChunkAsk
from heliograph.bus.blob_store import BlobHolder, BlobSource
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.payloads import BlobAsk
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import Topic
from heliograph.bus.link import Link
from heliograph.bus.port import Port
from heliograph.core.errors import Damaged, Unreachable

UPLOAD_CHUNK_BYTES = 1 << 19
"""Bytes of a chunk that an edge sends, on a thin link in parts: the broker passes a message on once it is whole."""


class CloudBlobs:
    """The blobs of the cloud, for an edge."""

    def __init__(self, port: Port, edge: str) -> None:
        self._port = port
        self._edge = edge

    @property
    def link(self) -> Link:
        return self._port.bus.link

    async def fetch(
        self, ref: WeightsRef, target: Path, check: Check | None = None, bucket: str = MODELS
    ) -> Path:
        """Fetch a blob as ``BlobSource.fetch`` does, from ``bucket`` where the reference names none."""
        bucket, edge = ref.bucket or bucket, self._edge

        def ask(id: str, due: ChunkAsk) -> bytes:
            return _ask(self._port, topics.BLOB_ASK, edge, BlobAsk(
                id=id, digest=ref.digest, bucket=bucket, place=due.place, sequence=due.sequence, count=due.count
            ))  # fmt: skip

        holder = BlobHolder(
            f"bucket {bucket}", topics.BLOB_ASK.at(edge=edge),
            lambda id: topics.BLOB_CHUNK.at(edge=edge, id=id), ask, CHUNK, batches=True,
        )  # fmt: skip
        return await self._port.bus.fetch_from(holder, ref, target, check)


class Uploads:
    """What edges have made for the cloud: it lies on the edge's disk, or in the edge's bucket."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def on_edge(self, edge: str) -> BlobSource:
        """Return the uploads on an edge's disk."""
        return _OnEdge(self._port, edge)

    def of(self, edge: str) -> BlobSource:
        """Return an edge's uploads, wherever they lie."""
        return _Anywhere(self._port, edge)


class _OnEdge:
    def __init__(self, port: Port, edge: str) -> None:
        self._port = port
        self._edge = edge

    async def fetch(self, ref: WeightsRef, target: Path, check: Check | None = None) -> Path:
        edge = self._edge

        def ask(id: str, due: ChunkAsk) -> bytes:
            wanted = BlobAsk(
                id=id, digest=ref.digest, place=due.place, count=due.count, offset=due.offset, parts=due.parts
            )
            return _ask(self._port, topics.UPLOAD_ASK, edge, wanted)

        holder = BlobHolder(
            f"edge {edge}", topics.UPLOAD_ASK.at(edge=edge), lambda id: topics.UPLOAD_CHUNK.at(edge=edge, id=id), ask,
            UPLOAD_CHUNK_BYTES, batches=False,
        )  # fmt: skip
        return await self._port.bus.fetch_from(holder, ref, target, check)


class _Anywhere:
    def __init__(self, port: Port, edge: str) -> None:
        self._port = port
        self._edge = edge

    async def fetch(self, ref: WeightsRef, target: Path, check: Check | None = None) -> Path:
        try:
            return await _OnEdge(self._port, self._edge).fetch(ref, target, check)
        except Damaged:
            raise
        except Unreachable:
            bucket = await self._port.bus.existing_blobs(upload_bucket(self._edge))
            if bucket is None or not await bucket.has(ref.digest):
                raise
            return await bucket.fetch(ref, target, check)


def _ask(port: Port, topic: Topic[BlobAsk], edge: str, wanted: BlobAsk) -> bytes:
    return encode(port.event(topic, wanted, topic.at(edge=edge)))
