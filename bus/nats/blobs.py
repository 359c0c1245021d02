"""Blobs on JetStream's object store (NATS ADR-20), so that ``nats object ls`` lists them.

A blob's object name is its SHA-256, and its chunks have a subject made from it: a cut upload resumes after the last
whole chunk, a cut download after the last chunk on disk. The receiver hashes the content once; the digest in the
object's metadata comes from the producer. Each chunk carries its index, because a killed broker may restore chunks that
had been deleted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.nats.connection import NatsConnection
from heliograph.core.errors import HeliographError, Refused, Unreachable

_HEADERS = 4096
CHUNK = (1 << 20) - _HEADERS
"""Bytes of a chunk; with its headers it fills nats-server's default max_payload. With 128 KiB, synced writes take three
times as long."""
_PLACE = "Heliograph-Chunk"
WINDOW = 16
"""Chunks under way that the broker has not acknowledged, at most."""


IDLE = 1.2
"""Seconds for which an idle connection is kept for the next transfer; soon after, the broker would miss its pongs."""


class NatsBlobs:
    """One object store. Each transfer has its own thread and connection; the next transfer reuses the connection.

    Args:
        store: name of the object store on the broker.
        max_age: seconds after which a blob expires; 0 for never.
    """

    def __init__(self, connection: NatsConnection, store: str, bucket: str, max_age: float = 0) -> None:
        self.bucket = bucket
        self._max_age = max_age
        self._connection = connection
        self._store = store
        self._world = connection.world
        self._idle: list[BulkLink] = []
        self._closing: asyncio.TimerHandle | None = None

    async def prepare(self) -> None:
        """Create the bucket if it is missing."""
        config = {
            "name": f"OBJ_{self._store}",
            "subjects": [f"$O.{self._store}.C.>", f"$O.{self._store}.M.>"],
            "storage": "file",
            "discard": "new",
            "max_age": int(self._max_age * 1e9),
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "num_replicas": 1,
        }
        answer = await self._connection.ask(f"$JS.API.STREAM.CREATE.OBJ_{self._store}", config)
        if "error" in answer and answer["error"].get("err_code") != 10058:
            raise HeliographError(f"bucket {self.bucket}: {answer['error'].get('description')}")

    async def has(self, digest: str) -> bool:
        return await self._info(digest) is not None

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        stored = ref.model_copy(update={"bucket": self.bucket, "inline": None})
        chunks = -(-ref.size // CHUNK)
        done = await self._whole_chunks(ref.digest)
        if done == chunks and await self._info(ref.digest) is not None:
            return stored
        if done is None or done > chunks:  # not this file's chunks; start again
            await self._purge(f"C.{ref.digest}")
            done = 0
        await self._cancellable(self._upload, path, ref, done)
        return stored

    async def fetch(self, ref: WeightsRef, target: Path) -> Path:
        if target.exists():
            return target
        if not ref.size and await self._info(ref.digest) is None:  # an empty blob has no chunk whose absence would show
            raise Unreachable(f"blob {ref.digest[:12]} is not in bucket {self.bucket} yet")
        await self._cancellable(self._download, ref, target)
        return target

    async def delete(self, digest: str) -> None:
        await self._purge(f"M.{_encoded(digest)}")
        await self._purge(f"C.{digest}")

    async def digests(self) -> list[str]:
        answer = await self._connection.ask(
            f"$JS.API.STREAM.INFO.OBJ_{self._store}", {"subjects_filter": f"$O.{self._store}.M.>"}
        )
        names = (answer.get("state", {}).get("subjects") or {}).keys()
        return sorted(base64.urlsafe_b64decode(name.rsplit(".", 1)[1]).decode() for name in names)

    async def close(self) -> None:
        """Close the idle connections."""
        if self._closing is not None:
            self._closing.cancel()
        self._close_idle()

    async def _cancellable(self, function: Callable[..., None], *args: Any) -> None:
        """Run a transfer in a thread; on cancellation the thread ends at its next chunk."""
        stop = threading.Event()
        link = self._idle.pop() if self._idle else None
        running = asyncio.ensure_future(self._world.in_thread(self._transfer, link, function, *args, stop))
        try:
            self._idle.append(await asyncio.shield(running))
        except asyncio.CancelledError:
            stop.set()
            running.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody awaits it
            raise
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(IDLE, self._close_idle)

    def _transfer(self, link: BulkLink | None, function: Callable[..., None], *args: Any) -> BulkLink:
        if link is not None and not link.alive:
            link.close()
            link = None
        link = link or BulkLink(self._connection.url, f"{self._connection.inbox}.{self._world.new_id()}")
        try:
            function(link, *args)
        except BaseException:
            link.close()
            raise
        return link

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _info(self, digest: str) -> dict[str, Any] | None:
        subject = f"$JS.API.DIRECT.GET.OBJ_{self._store}.$O.{self._store}.M.{_encoded(digest)}"
        answer = await self._connection.request(subject)
        if (answer.headers or {}).get("Status") == "404":
            return None
        info = json.loads(answer.data)
        return None if info.get("deleted") else info

    async def _whole_chunks(self, digest: str) -> int | None:
        """Return the number of stored chunks, from the first on; None if their indexes are not consecutive."""
        subject = f"$O.{self._store}.C.{digest}"
        answer = await self._connection.ask(f"$JS.API.STREAM.INFO.OBJ_{self._store}", {"subjects_filter": subject})
        count = int((answer.get("state", {}).get("subjects") or {}).get(subject, 0))
        if not count:
            return 0
        ends = ({"seq": 1, "next_by_subj": subject}, {"last_by_subj": subject})
        direct = f"$JS.API.DIRECT.GET.OBJ_{self._store}"
        found = [await self._connection.request(direct, json.dumps(each).encode()) for each in ends]
        places = [(each.headers or {}).get(_PLACE) for each in found]
        return count if places == ["0", str(count - 1)] else None

    async def _purge(self, tail: str) -> None:
        await self._connection.ask(f"$JS.API.STREAM.PURGE.OBJ_{self._store}", {"filter": f"$O.{self._store}.{tail}"})

    def _described(self, ref: WeightsRef) -> bytes:
        """Return the object's metadata, as defined by ADR-20."""
        info = {
            "name": ref.digest,
            "bucket": self._store,
            "nuid": ref.digest,
            "size": ref.size,
            "chunks": -(-ref.size // CHUNK),
            "mtime": self._world.timestamp(),
            "digest": "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(ref.digest)).decode(),
            "options": {"max_chunk_size": CHUNK},
        }
        return json.dumps(info).encode()

    def _upload(self, link: BulkLink, path: Path, ref: WeightsRef, done: int, stop: threading.Event) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != ref.size:
                raise Refused("invalid", topic=str(path), expected=f"{ref.size} bytes", got=f"{size} bytes")
            if link.max_payload < CHUNK + _HEADERS:
                raise HeliographError(f"the broker's max_payload is {link.max_payload}; blobs need {CHUNK + _HEADERS}")
            chunks, meta = f"$O.{self._store}.C.{ref.digest}", f"$O.{self._store}.M.{_encoded(ref.digest)}"
            with _mapped(file, size) as view:
                waiting = 0
                for start in range(done * CHUNK, size, CHUNK):
                    if stop.is_set():
                        raise Unreachable(f"blob {ref.digest[:12]}: the upload was cancelled")
                    with view[start : start + CHUNK] as chunk:
                        link.publish(chunks, chunk, f"{_PLACE}: {start // CHUNK}")
                    waiting += 1
                    while waiting >= WINDOW:
                        waiting -= _acknowledged(link)
            link.publish(meta, self._described(ref))  # without waiting for the chunks: readers detect gaps
            for _ in range(waiting + 1):
                _acknowledged(link)

    def _download(self, link: BulkLink, ref: WeightsRef, target: Path, stop: threading.Event) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        place = target.with_name(target.name + ".place")
        hasher = hashlib.sha256()
        with part.open("r+b" if part.exists() else "w+b") as file:
            sequence, at = _resume(file, place, hasher, ref.size)
            if at < ref.size:
                self._receive(link, ref, file, place, hasher, sequence, at, stop)
        place.unlink(missing_ok=True)
        if hasher.hexdigest() != ref.digest:
            part.unlink()
            raise Unreachable(f"blob {ref.digest[:12]} arrived damaged; it will be fetched again")
        part.replace(target)

    def _receive(
        self,
        link: BulkLink,
        ref: WeightsRef,
        file: Any,
        place: Path,
        hasher: Any,
        sequence: int,
        at: int,
        stop: threading.Event,
    ) -> None:
        buffer = memoryview(bytearray(min(CHUNK, ref.size)))
        with place.open("r+" if place.exists() else "w") as note:
            while at < ref.size:
                ask = {"seq": sequence + 1, "next_by_subj": f"$O.{self._store}.C.{ref.digest}", "batch": WINDOW}
                link.publish(f"$JS.API.DIRECT.GET.OBJ_{self._store}", json.dumps(ask).encode())
                while True:
                    delivery = link.next()
                    if status := delivery.headers.get("Status"):
                        link.payload(delivery)
                        if status == "204":
                            break
                        place.unlink(missing_ok=True)  # missing chunks may be stored again from the first on
                        reason = "is not in bucket" if status == "404" else delivery.headers.get("Description")
                        raise Unreachable(f"blob {ref.digest[:12]} {reason} {self.bucket} yet")
                    if delivery.size > len(buffer):
                        raise Refused("invalid", expected=f"a blob of {ref.size} bytes", got="more than that")
                    if stop.is_set():
                        raise Unreachable(f"blob {ref.digest[:12]}: the download was cancelled")
                    chunk = buffer[: delivery.size]
                    link.read_into(chunk)
                    sequence = int(delivery.headers["Nats-Sequence"])
                    wanted = str(at // CHUNK) if at < ref.size else ""
                    if delivery.headers.get(_PLACE, wanted) != wanted:
                        continue  # a deleted chunk that the broker restored
                    if at + delivery.size > ref.size:
                        raise Refused("invalid", expected=f"a blob of {ref.size} bytes", got="more than that")
                    file.write(chunk)
                    hasher.update(chunk)
                    at += delivery.size
                    file.flush()
                    note.seek(0)  # no truncation: the file system would write the file out each time
                    note.write(f"{sequence} {at}\n")
                    note.flush()


@contextmanager
def _mapped(file: Any, size: int) -> Iterator[memoryview]:
    """Yield the file's bytes without a copy; an empty file cannot be mapped."""
    if not size:
        yield memoryview(b"")
        return
    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
        yield view


def _resume(file: Any, place: Path, hasher: Any, size: int) -> tuple[int, int]:
    """Return sequence and end offset of the last chunk on disk, and hash the bytes before that offset."""
    try:
        sequence, at = (int(word) for word in place.read_text().split("\n")[0].split())
    except (OSError, ValueError):
        sequence, at = 0, 0
    have = os.fstat(file.fileno()).st_size
    if not 0 < at <= min(have, size):
        sequence, at = 0, 0
    left = at
    while left:
        block = file.read(min(CHUNK, left))
        hasher.update(block)
        left -= len(block)
    file.truncate(at)
    file.seek(at)
    return sequence, at


def _acknowledged(link: BulkLink) -> int:
    delivery = link.next()
    answer = link.payload(delivery)
    if delivery.headers.get("Status"):
        raise Unreachable("the object store's stream does not answer")
    reply = json.loads(answer)
    if "error" in reply:
        raise HeliographError(f"the object store refused a chunk: {reply['error'].get('description')}")
    return 1


def _encoded(digest: str) -> str:
    return base64.urlsafe_b64encode(digest.encode()).decode()
