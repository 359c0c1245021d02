"""Content-addressed files outside a node: where they can be fetched from, who holds one, and a store of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heliograph.bus.arriving_blob import Check, ChunkAsk
from heliograph.bus.contract.resources.base import WeightsRef


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as it lies in its bucket, or the beginning of one whose upload was cut.

    Attributes:
        size: bytes; of a beginning those of its chunks, rounded up to a whole one.
        at: time at which it was last stored, in seconds since 1970.
        revision: changes each time it is stored.
        whole: False for a beginning.
    """

    digest: str
    size: int
    at: float
    revision: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class BlobHolder:
    """Who has a blob outside this node, and how it is asked for chunks.

    Attributes:
        name: in errors, such as ``edge edge-1``.
        ask_at: address that takes asks.
        chunks_at: returns the address at which the chunks of a transfer come, by its id.
        ask: returns the body of an ask of a transfer.
        chunk: bytes of a chunk.
        batches: whether the chunks come from a bucket, see ``ArrivingBlob``.
    """

    name: str
    ask_at: str
    chunks_at: Callable[[str], str]
    ask: Callable[[str, ChunkAsk], bytes]
    chunk: int
    batches: bool


class BlobSource(Protocol):
    """Where blobs can be fetched from."""

    async def fetch(self, ref: WeightsRef, target: Path, check: Check | None = None) -> Path:
        """Download to ``target`` and return it. Resumes a cut download, and verifies the SHA-256, and by ``check``,
        before renaming. Raises Damaged where the bytes are others, and as ``check`` does."""
        ...


class BlobStore(BlobSource, Protocol):
    """Content-addressed files: the name is the SHA-256 of the content."""

    bucket: str

    async def has(self, digest: str) -> bool: ...
    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        """Upload the file unless it is there, resuming after the last whole chunk; return the ref with its bucket. A
        blob that is there counts as stored now."""
        ...

    async def send_chunks(self, digest: str, ask: ChunkAsk, to: str) -> None:
        """Let the broker send chunks of a blob to an address, and a message that ends them."""
        ...

    async def delete(self, digest: str) -> None: ...
    async def digests(self) -> list[str]: ...
    async def about(self, digest: str) -> StoredBlob | None:
        """Return what is known of a blob; None where there is none."""
        ...

    async def beginnings(self) -> list[StoredBlob]:
        """Return the beginnings of blobs whose uploads have not come to their end, sorted."""
        ...

    async def discard(self, blob: StoredBlob) -> bool:
        """Delete a blob, or a beginning, unless it has been stored again since it was looked at. Return whether it was
        deleted."""
        ...
