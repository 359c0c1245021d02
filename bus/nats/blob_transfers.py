"""Transfers of one blob over a bulk link, chunk by chunk; blocking, so each runs in a thread.

Setting a transfer's ``stop`` ends it at its next chunk with Unreachable; the next transfer resumes there.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from heliograph.bus.arriving_blob import CHUNK, HEADERS, PLACE, WINDOW, ArrivingBlob, Check, ChunkAsk
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.holder_silences import SILENCE
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.nats.connection import MAKE_ROOM, is_full
from heliograph.core.errors import HeliographError, Refused, StoreFull, Unreachable
from heliograph.core.world import World


class BucketTransfers:
    """Uploads to one object store, and downloads from it.

    Args:
        store: name of the object store on the broker.
        bucket: its name in errors.
        writer: name of this process, by which the broker stores no chunk of it twice; empty where a blob may be deleted
            and stored anew within the broker's window of two minutes.
    """

    def __init__(self, store: str, bucket: str, world: World, writer: str = "") -> None:
        self._writer = writer
        self._store = store
        self._bucket = bucket
        self._world = world

    def upload(
        self, link: BulkLink, inbox: str, path: Path, ref: WeightsRef, done: int, stop: threading.Event
    ) -> None:
        """Upload the chunks of a file after the first ``done`` ones, then the metadata that makes it a blob."""
        link.listen(inbox)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != ref.size:
                raise Refused("invalid", topic=str(path), expected=f"{ref.size} bytes", got=f"{size} bytes")
            if link.max_payload < CHUNK + HEADERS:
                raise HeliographError(f"the broker's max_payload is {link.max_payload}; blobs need {CHUNK + HEADERS}")
            chunks, meta = f"$O.{self._store}.C.{ref.digest}", f"$O.{self._store}.M.{encoded_name(ref.digest)}"
            with _mapped(file, size) as view:
                waiting = 0
                for start in range(done * CHUNK, size, CHUNK):
                    if stop.is_set():
                        raise Unreachable(f"blob {ref.digest[:12]}: the upload was cancelled")
                    with view[start : start + CHUNK] as chunk:
                        link.publish(chunks, chunk, self._header(ref.digest, start // CHUNK))
                    waiting += 1
                    while waiting >= WINDOW:
                        waiting -= _acknowledged(link)
            link.publish(meta, self.described(ref))  # without waiting for the chunks: readers detect gaps
            for _ in range(waiting + 1):
                _acknowledged(link)

    def _header(self, digest: str, place: int) -> str:
        """Return the header of a chunk. Those of an attempt that was cut may still be on their way to the broker."""
        once = f"\r\nNats-Msg-Id: {self._writer}.{digest}.{place}" if self._writer else ""
        return f"{PLACE}: {place}{once}"

    def download(
        self, link: BulkLink, inbox: str, ref: WeightsRef, target: Path, check: Check | None, stop: threading.Event
    ) -> None:
        """Download a blob to ``target``, after the chunks of an earlier attempt that are on disk."""

        def ask(due: ChunkAsk) -> None:
            link.publish(f"$JS.API.DIRECT.GET.OBJ_{self._store}", self.batch_of(ref.digest, due.sequence, due.count))

        blob = ArrivingBlob(ref, target, CHUNK, f"bucket {self._bucket}", True, check)
        receive(link, inbox, blob, ask, stop)

    def batch_of(self, digest: str, sequence: int, count: int) -> bytes:
        """Return the direct get (NATS ADR-31) of the chunks behind a sequence."""
        chunks = f"$O.{self._store}.C.{digest}"
        return json.dumps({"seq": sequence + 1, "next_by_subj": chunks, "batch": count}).encode()

    def described(self, ref: WeightsRef) -> bytes:
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


def receive(
    link: BulkLink, inbox: str, blob: ArrivingBlob, ask: Callable[[ChunkAsk], None], stop: threading.Event,
    silence: float = SILENCE,
) -> None:  # fmt: skip
    """Receive a blob's chunks on ``inbox``, an address of this transfer alone. Raise Unanswered after so many seconds
    without a message."""
    link.listen(inbox)
    with blob:
        buffer = memoryview(bytearray(blob.largest))
        before = link.clock()
        while not blob.complete:
            if (due := blob.next_ask()) is not None:
                ask(due)
            delivery = link.next(silence)
            if stop.is_set():
                raise Unreachable("the transfer was cancelled")
            if blob.expects(delivery.headers, delivery.size):
                chunk = buffer[: delivery.size]
                link.read_into(chunk)
                blob.take(chunk)
                if blob.between_chunks:
                    before, now = link.clock(), before
                    blob.came(before - now)
            else:
                link.payload(delivery)
        blob.prove()


def send_parts(
    link: BulkLink, subject: str, path: Path, ask: ChunkAsk, chunk: int, stop: threading.Event
) -> None:
    """Publish the chunks of a file that are asked for; fewer where it ends before. What the link's window holds is sent
    at once, and the rest once the broker has taken that."""
    pace = link.pace
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            sent, began = 0, link.clock()
            for headers, start, length in ask.pieces(chunk, size, lambda: pace.part):
                if stop.is_set():
                    raise Unreachable("the transfer was cancelled")
                link.post_part(subject, "\r\n".join(f"{key}: {value}" for key, value in headers.items()), file, start,
                               length)  # fmt: skip
                sent += length
                if sent >= pace.window:
                    link.flush()
                    pace.acknowledged(sent, link.clock() - began)
                    sent, began = 0, link.clock()
        link.flush()
    except Unreachable:
        if not stop.is_set():
            pace.lost()
        raise
    if sent:
        pace.acknowledged(sent, link.clock() - began)


def encoded_name(digest: str) -> str:
    """Return a blob's name as the subject of its metadata spells it (ADR-20)."""
    return base64.urlsafe_b64encode(digest.encode()).decode()


@contextmanager
def _mapped(file: Any, size: int) -> Iterator[memoryview]:
    """Yield the file's bytes without a copy; an empty file cannot be mapped."""
    if not size:
        yield memoryview(b"")
        return
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    view = memoryview(mapped)
    try:
        yield view
    finally:
        with suppress(BufferError):  # an error on its way holds a part of it; the mapping goes with the error
            view.release()
            mapped.close()


def _acknowledged(link: BulkLink) -> int:
    delivery = link.next()
    answer = link.payload(delivery)
    if delivery.headers.get("Status"):
        raise Unreachable("the object store's stream does not answer")
    reply = json.loads(answer)
    if "error" in reply:
        why = f"the object store refused a chunk: {reply['error'].get('description')}"
        raise StoreFull(f"{why}; {MAKE_ROOM}") if is_full(reply["error"]) else HeliographError(why)
    return 1
