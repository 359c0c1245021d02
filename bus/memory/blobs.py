"""Content-addressed blobs of the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from heliograph.bus.arriving_blob import CHUNK, END, NOT_HELD, PLACE, SEQUENCE, Check, ChunkAsk, status
from heliograph.bus.blob_store import StoredBlob
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.memory.connection import MemoryConnection
from heliograph.bus.transport import Message
from heliograph.core.errors import Damaged, Refused, Unreachable
from heliograph.core.world import World


class MemoryBlobs:
    """See ``BlobStore``."""

    def __init__(self, connection: MemoryConnection, bucket: str, world: World) -> None:
        self.bucket = bucket
        self._connection = connection
        self._world = world
        self._times = connection.hub.blob_times.setdefault(bucket, {})
        self._content = connection.hub.blobs.setdefault(bucket, {})

    async def has(self, digest: str) -> bool:
        await self._connection.send()
        return digest in self._content

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        content = path.read_bytes()
        await self._connection.send(0 if ref.digest in self._content else len(content))
        self._content[ref.digest] = content
        self._times[ref.digest] = self._times.get(ref.digest, (0, 0.0))[0] + 1, self._world.now()
        await self._connection.down()
        return ref.model_copy(update={"bucket": self.bucket, "inline": None})

    async def fetch(self, ref: WeightsRef, target: Path, check: Check | None = None) -> Path:
        await self._connection.send()
        if ref.digest not in self._content:
            raise Unreachable(f"blob {ref.digest[:12]} is not in bucket {self.bucket} yet")
        content = self._content[ref.digest]
        await self._connection.down(len(content))
        if hashlib.sha256(content).hexdigest() != ref.digest:
            raise Damaged(f"blob {ref.digest[:12]} arrived damaged; it will be fetched again")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(content)
        if check is not None:
            try:
                check(part, ref)
            except Refused:
                part.unlink()
                raise
        return part.replace(target)

    async def send_chunks(self, digest: str, ask: ChunkAsk, to: str) -> None:
        self._connection.check()
        content = self._content.get(digest, b"")
        if ask.sequence * CHUNK >= len(content):
            self._connection.hub.publish(to, Message(to, b"", headers=status(NOT_HELD)))
            return
        for number in range(ask.sequence, min(ask.sequence + ask.count, -(-len(content) // CHUNK))):
            headers = {PLACE: str(number), SEQUENCE: str(number + 1)}
            chunk = content[number * CHUNK : (number + 1) * CHUNK]
            self._connection.hub.publish(to, Message(to, chunk, headers=headers))
        self._connection.hub.publish(to, Message(to, b"", headers=status(END)))

    async def delete(self, digest: str) -> None:
        await self._connection.send()
        self._content.pop(digest, None)

    async def digests(self) -> list[str]:
        await self._connection.send()
        return sorted(self._content)

    async def about(self, digest: str) -> StoredBlob | None:
        await self._connection.send()
        if digest not in self._content:
            return None
        revision, at = self._times.get(digest, (0, 0.0))
        return StoredBlob(digest, len(self._content[digest]), at, revision)

    async def beginnings(self) -> list[StoredBlob]:
        await self._connection.send()
        return []  # an upload arrives whole

    async def discard(self, blob: StoredBlob) -> bool:
        if await self.about(blob.digest) != blob:
            return False
        await self.delete(blob.digest)
        return True
