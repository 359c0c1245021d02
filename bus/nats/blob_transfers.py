"""Transfers of one blob over a bulk link, chunk by chunk; blocking, so each runs in a thread.

Setting a transfer's ``stop`` ends it at its next chunk with Unreachable; the next transfer resumes there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.nats.connection import MAKE_ROOM, SEQUENCE, is_full
from heliograph.core.errors import HeliographError, Refused, StoreFull, Unreachable
from heliograph.core.world import World

HEADERS = 4096
"""Bytes of a chunk's headers, at most."""
CHUNK = (1 << 20) - HEADERS
"""Bytes of a chunk; with its headers it fills nats-server's default max_payload. With 128 KiB, synced writes take three
times as long."""
PLACE = "Heliograph-Chunk"
"""Header of a chunk with its index."""
WINDOW = 16
"""Chunks under way that the broker has not acknowledged, at most."""


class BlobTransfers:
    """Uploads to one object store, and downloads from it.

    Args:
        store: name of the object store on the broker.
        bucket: its name in errors.
    """

    def __init__(self, store: str, bucket: str, world: World) -> None:
        self._store = store
        self._bucket = bucket
        self._world = world

    def upload(self, link: BulkLink, path: Path, ref: WeightsRef, done: int, stop: threading.Event) -> None:
        """Upload the chunks of a file after the first ``done`` ones, then the metadata that makes it a blob."""
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
                        link.publish(chunks, chunk, f"{PLACE}: {start // CHUNK}")
                    waiting += 1
                    while waiting >= WINDOW:
                        waiting -= _acknowledged(link)
            link.publish(meta, self.described(ref))  # without waiting for the chunks: readers detect gaps
            for _ in range(waiting + 1):
                _acknowledged(link)

    def download(self, link: BulkLink, ref: WeightsRef, target: Path, stop: threading.Event) -> None:
        """Download a blob to ``target``, after the chunks of an earlier attempt that are on disk."""
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
                    if stop.is_set():
                        raise Unreachable(f"blob {ref.digest[:12]}: the download was cancelled")
                    if SEQUENCE not in delivery.headers:  # else a chunk, whose publisher may write a header "Status"
                        status = delivery.headers.get("Status")
                        link.payload(delivery)
                        if status == "204":
                            break
                        place.unlink(missing_ok=True)  # missing chunks may be stored again from the first on
                        reason = "is not in bucket" if status == "404" else delivery.headers.get("Description")
                        raise Unreachable(f"blob {ref.digest[:12]} {reason} {self._bucket} yet")
                    if delivery.size > len(buffer):
                        raise Refused("invalid", expected=f"a blob of {ref.size} bytes", got="more than that")
                    chunk = buffer[: delivery.size]
                    link.read_into(chunk)
                    sequence = int(delivery.headers[SEQUENCE])
                    wanted = str(at // CHUNK) if at < ref.size else ""
                    if delivery.headers.get(PLACE, wanted) != wanted:
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


def encoded_name(digest: str) -> str:
    """Return a blob's name as the subject of its metadata spells it (ADR-20)."""
    return base64.urlsafe_b64encode(digest.encode()).decode()


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
        why = f"the object store refused a chunk: {reply['error'].get('description')}"
        raise StoreFull(f"{why}; {MAKE_ROOM}") if is_full(reply["error"]) else HeliographError(why)
    return 1
