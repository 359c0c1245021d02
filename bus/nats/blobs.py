"""Blobs on JetStream's object store (NATS ADR-20), so that ``nats object ls`` lists them.

A blob's object name is its SHA-256, and its chunks have a subject made from it: a cut upload resumes after the last
whole chunk, a cut download after the last chunk on disk. The receiver hashes the content once; the digest in the
object's metadata comes from the producer. Each chunk carries its index, because a killed broker may restore chunks that
had been deleted.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg

from heliograph.bus.arriving_blob import CHUNK, HEADERS, PLACE, SEQUENCE, Check, ChunkAsk
from heliograph.bus.blob_store import StoredBlob
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.nats.blob_transfers import BucketTransfers, encoded_name
from heliograph.bus.nats.bulk_links import BulkLinks
from heliograph.bus.nats.connection import (
    NatsConnection,
    has_no_stream,
    is_missing,
    stored_at,
    time_of,
)
from heliograph.bus.nats.stream_making import ensure_stream
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.names import is_digest


class NatsBlobs:
    """One object store.

    Args:
        links: the connections of transfers.
        store: name of the object store on the broker.
        max_bytes: bytes of all its blobs, at most.
        max_age: seconds after which a blob expires; 0 for never.
        writer: see ``BucketTransfers``; needed by who may not delete a beginning whose chunks came twice.
    """

    def __init__(
        self, connection: NatsConnection, links: BulkLinks, store: str, bucket: str, max_bytes: int, max_age: float = 0,
        writer: str = "",
    ) -> None:  # fmt: skip
        self.bucket = bucket
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._connection = connection
        self._store = store
        self._world = connection.world
        self._links = links
        self._transfers = BucketTransfers(store, bucket, self._world, writer)

    async def prepare(self) -> None:
        """Create the bucket if it is missing, and set its limits again if another version has set others."""
        config: dict[str, Any] = {
            "name": f"OBJ_{self._store}",
            "subjects": [f"$O.{self._store}.C.>", f"$O.{self._store}.M.>"],
            "storage": "file",
            "discard": "new",
            "max_age": int(self._max_age * 1e9),
            # a bound on its bytes that reserves none: nats-server sets max_bytes of each stream aside on its disk
            "max_msgs": self._max_bytes // CHUNK,
            "max_msg_size": CHUNK + HEADERS,
            "allow_rollup_hdrs": False,  # else whoever may store a chunk may delete the whole bucket by a header
            "allow_direct": True,
        }
        await ensure_stream(self._connection, config, f"bucket {self.bucket}")

    async def has(self, digest: str) -> bool:
        return await self._info(digest) is not None

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        stored = ref.model_copy(update={"bucket": self.bucket, "inline": None})
        chunks = -(-ref.size // CHUNK)
        done = await self._whole_chunks(ref.digest)
        if done == chunks and await self._info(ref.digest) is not None:
            await self._describe_again(ref)
            return stored
        if done is None or done > chunks:  # not this file's chunks; start again
            await self._purge(f"C.{ref.digest}")
            done = 0
        await self._links.run(self._transfers.upload, self._new_inbox(), path, ref, done)
        return stored

    async def fetch(self, ref: WeightsRef, target: Path, check: Check | None = None) -> Path:
        if target.exists():
            return target
        if not ref.size and await self._info(ref.digest) is None:  # an empty blob has no chunk whose absence would show
            raise Unreachable(f"blob {ref.digest[:12]} is not in bucket {self.bucket} yet")
        await self._links.run(self._transfers.download, self._new_inbox(), ref, target, check)
        return target

    async def delete(self, digest: str) -> None:
        await self._purge(f"M.{encoded_name(digest)}")
        await self._purge(f"C.{digest}")

    async def digests(self) -> list[str]:
        names = await self._connection.counted_subjects(f"OBJ_{self._store}", f"$O.{self._store}.M.>")
        return sorted(filter(is_digest, map(_decoded_name, names)))

    async def about(self, digest: str) -> StoredBlob | None:
        answer = await self._described(digest)
        info = _read(answer, self.bucket, digest) if answer is not None else None
        if answer is None or info is None:
            return None
        size = info.get("size")
        return StoredBlob(digest, size if isinstance(size, int) else 0, time_of(answer), _sequence_of(answer))

    async def beginnings(self) -> list[StoredBlob]:
        chunks = await self._connection.counted_subjects(f"OBJ_{self._store}", f"$O.{self._store}.C.>")
        whole = set(await self.digests())
        names = sorted((subject.rsplit(".", 1)[1], count) for subject, count in chunks.items())
        found = [await self._beginning(name, count) for name, count in names if is_digest(name) and name not in whole]
        return [each for each in found if each is not None]

    async def discard(self, blob: StoredBlob) -> bool:
        if blob.whole:  # up to the description that was looked at: one that is newer stays, and with it the chunks
            await self._purge(f"M.{encoded_name(blob.digest)}", below=blob.revision + 1)
        elif (await self._last_chunk(blob.digest))[0] != blob.revision:
            return False
        if await self._info(blob.digest) is not None:
            return False
        await self._purge(f"C.{blob.digest}")
        return True

    async def send_chunks(self, digest: str, ask: ChunkAsk, to: str) -> None:
        wanted = self._transfers.batch_of(digest, ask.sequence, ask.count)
        subject = f"$JS.API.DIRECT.GET.OBJ_{self._store}"
        reply = self._connection.subjects.subject(to)  # the broker itself sends the chunks there
        await self._connection.guard(self._connection.client.publish(subject, wanted, reply=reply))

    def _new_inbox(self) -> str:
        return f"{self._connection.inbox}.{self._world.new_id()}"

    async def _info(self, digest: str) -> dict[str, Any] | None:
        answer = await self._described(digest)
        return None if answer is None else _read(answer, self.bucket, digest)

    async def _described(self, digest: str) -> Msg | None:
        """Return the message that describes a blob; None where there is none."""
        subject = f"$JS.API.DIRECT.GET.OBJ_{self._store}.$O.{self._store}.M.{encoded_name(digest)}"
        answer = await self._connection.request(subject)
        return None if is_missing(answer) else answer

    async def _describe_again(self, ref: WeightsRef) -> None:
        """Store a blob's metadata anew: whoever collects garbage sees by its age that somebody wants it."""
        subject = f"$O.{self._store}.M.{encoded_name(ref.digest)}"
        body = self._transfers.described(ref)
        answer = await self._connection.request(subject, body)
        stored_at(answer.data, f"blob {ref.digest[:12]}")

    async def _beginning(self, digest: str, chunks: int) -> StoredBlob | None:
        sequence, at = await self._last_chunk(digest)
        return StoredBlob(digest, chunks * CHUNK, at, sequence, whole=False) if sequence else None

    async def _last_chunk(self, digest: str) -> tuple[int, float]:
        """Return sequence and time of a blob's newest chunk; zeros where it has none."""
        wanted = json.dumps({"last_by_subj": f"$O.{self._store}.C.{digest}"}).encode()
        answer = await self._connection.request(f"$JS.API.DIRECT.GET.OBJ_{self._store}", wanted)
        return (0, 0.0) if is_missing(answer) else (_sequence_of(answer), time_of(answer))

    async def _whole_chunks(self, digest: str) -> int | None:
        """Return the number of stored chunks, from the first on; None if their indexes are not consecutive."""
        subject = f"$O.{self._store}.C.{digest}"
        answer = await self._connection.ask(f"$JS.API.STREAM.INFO.OBJ_{self._store}", {"subjects_filter": subject})
        if has_no_stream(answer):  # deleted meanwhile, with its edge
            await self.prepare()
            return 0
        count = int((answer.get("state", {}).get("subjects") or {}).get(subject, 0))
        if not count:
            return 0
        ends = ({"seq": 1, "next_by_subj": subject}, {"last_by_subj": subject})
        direct = f"$JS.API.DIRECT.GET.OBJ_{self._store}"
        found = [await self._connection.request(direct, json.dumps(each).encode()) for each in ends]
        places = [(each.headers or {}).get(PLACE) for each in found]
        return count if places == ["0", str(count - 1)] else None

    async def _purge(self, tail: str, below: int = 0) -> None:
        """Delete the messages of a subject; with ``below`` those of lower sequences alone."""
        document = {"filter": f"$O.{self._store}.{tail}"} | ({"seq": below} if below else {})
        await self._connection.ask(f"$JS.API.STREAM.PURGE.OBJ_{self._store}", document)


def _read(answer: Msg, bucket: str, digest: str) -> dict[str, Any] | None:
    """Return a blob's metadata; None where they say that it is deleted. Raise Refused where they are none."""
    try:
        info = json.loads(answer.data)
    except (ValueError, RecursionError):
        info = None
    if not isinstance(info, dict):  # an edge writes into its own bucket what it likes
        raise Refused("invalid", topic=bucket, field=digest[:12], expected="the metadata of a blob", got=answer.data)
    return None if info.get("deleted") else info


def _sequence_of(answer: Msg) -> int:
    return int((answer.headers or {})[SEQUENCE])


def _decoded_name(subject: str) -> str:
    """Return the blob's name of a metadata subject; empty where it is none, since an edge may write any."""
    try:
        return base64.urlsafe_b64decode(subject.rsplit(".", 1)[1]).decode()
    except ValueError:
        return ""
