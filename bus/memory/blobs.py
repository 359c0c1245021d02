"""Content-addressed blobs of the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.memory.connection import MemoryConnection
from heliograph.core.errors import Unreachable


class MemoryBlobs:
    """See ``BlobStore``."""

    def __init__(self, connection: MemoryConnection, bucket: str) -> None:
        self.bucket = bucket
        self._connection = connection
        self._content = connection.hub.blobs.setdefault(bucket, {})

    async def has(self, digest: str) -> bool:
        await self._connection.send()
        return digest in self._content

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        content = path.read_bytes()
        await self._connection.send(0 if ref.digest in self._content else len(content))
        self._content[ref.digest] = content
        await self._connection.down()
        return ref.model_copy(update={"bucket": self.bucket, "inline": None})

    async def fetch(self, ref: WeightsRef, target: Path) -> Path:
        await self._connection.send()
        if ref.digest not in self._content:
            raise Unreachable(f"blob {ref.digest[:12]} is not in bucket {self.bucket} yet")
        content = self._content[ref.digest]
        await self._connection.down(len(content))
        if hashlib.sha256(content).hexdigest() != ref.digest:
            raise Unreachable(f"blob {ref.digest[:12]} arrived damaged; it will be fetched again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    async def delete(self, digest: str) -> None:
        await self._connection.send()
        self._content.pop(digest, None)

    async def digests(self) -> list[str]:
        await self._connection.send()
        return sorted(self._content)
