"""A blob on its way to this node's disk, chunk by chunk: resumed where an earlier attempt was cut, proven at its end.

It reads no network: a transport asks for what ``next_ask`` says, and hands over what comes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Damaged, HeliographError, NobodyAnswers, NotHeld, Refused, Unreachable

PLACE = "Heliograph-Chunk"
"""Header of a chunk with its number."""
PART = "Heliograph-Part"
"""Header of a part of a chunk with the byte of the chunk at which it begins. On a thin link a chunk comes in parts."""
SEQUENCE = "Nats-Sequence"
"""Header of a message that a broker returns from a stream."""
STATUS = "Status"
"""Header of a message that is no chunk, with a code of HTTP."""
END, NOT_HELD, REFUSED, NOBODY = "204", "404", "403", "503"
HEADERS = 4096
"""Bytes of a stored chunk's headers, at most."""
CHUNK = (1 << 20) - HEADERS
"""Bytes of a chunk in a bucket; with its headers it fills nats-server's default max_payload. With 128 KiB, synced
writes take three times as long."""
WINDOW = 16
"""Chunks under way, at most."""
FIRST_WINDOW = 2
"""Chunks under way at first."""
WINDOW_SECONDS = 2.0
"""Seconds that the chunks under way are to take: what is under way when a transfer ends was sent for nothing."""
LEAST_PART = 1024
"""Bytes of a part at least, but for the last one of a chunk: each costs its receiver a message."""

Check = Callable[[Path, WeightsRef], None]


@dataclass(frozen=True, slots=True)
class ChunkAsk:
    """An ask for ``count`` chunks from number ``place`` on, of the first one from byte ``offset`` on; ``sequence`` is
    that of the last chunk of a bucket that has come, 0 for none. Whoever asks for ``parts`` takes chunks in parts."""

    place: int
    sequence: int
    count: int
    offset: int = 0
    parts: bool = False

    def pieces(self, chunk: int, size: int, most: Callable[[], int]) -> Iterator[tuple[dict[str, str], int, int]]:
        """Yield headers, first byte and length of each message that answers this ask to an edge.

        Args:
            chunk: bytes of a chunk.
            size: bytes of the file.
            most: returns the bytes that the next message may have, where whoever asks takes parts.
        """
        at, end = self.place * chunk + self.offset, min((self.place + self.count) * chunk, size)
        while at < end:
            number, inside = divmod(at, chunk)
            left = min(chunk - inside, size - at)
            length = min(left, max(most(), LEAST_PART)) if self.parts else left
            yield {PLACE: str(number), **({PART: str(inside)} if inside or length < left else {})}, at, length
            at += length


class ArrivingBlob:
    """The partial file of a blob, and what is to be asked for next. Use it as a context manager.

    A bucket answers an ask by a batch and a message that ends it. An edge sends what was asked for and nothing else, so
    that the window slides: the next chunks are asked for before the last ones have come.

    Args:
        chunk: bytes of a chunk.
        holder: who has the blob, for errors: ``bucket models``, ``edge edge-1``.
        batches: whether a bucket answers.
        check: called with the complete file before it gets its name; raises Refused where it must not have it.
    """

    def __init__(
        self, ref: WeightsRef, target: Path, chunk: int, holder: str, batches: bool, check: Check | None = None
    ) -> None:
        self.chunk = chunk
        self._ref = ref
        self._target = target
        self._holder = holder
        self._batches = batches
        self._check = check
        self._note: IO[str] | None = None
        self._part = target.with_name(target.name + ".part")
        self._place = target.with_name(target.name + ".place")
        self._hasher = hashlib.sha256()
        self._opened = ExitStack()
        self._at = 0
        self._sequence = 0
        self._under_way = 0
        self._window = FIRST_WINDOW
        self._repeated = 0
        """Bytes that have come again."""
        self._known = 0
        """Bytes at the beginning of the expected message that have come already."""

    def __enter__(self) -> Self:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            self._file: IO[bytes] = opened.enter_context(self._part.open("r+b" if self._part.exists() else "w+b"))
            if self._place.exists():
                self._note = opened.enter_context(self._place.open("r+"))
                self._resume(self._note.read(64))
            else:
                self._file.truncate()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def complete(self) -> bool:
        return self._at == self._ref.size

    @property
    def between_chunks(self) -> bool:
        """Whether no part of a chunk is missing of those that have come."""
        return self.complete or self._at % self.chunk == 0

    @property
    def largest(self) -> int:
        """Return the bytes of its largest chunk."""
        return min(self.chunk, self._ref.size)

    def next_ask(self) -> ChunkAsk | None:
        """Return what to ask for now; None while enough is under way."""
        if self._under_way > (0 if self._batches else self._window // 2):
            return None
        first = self._at // self.chunk + self._under_way
        left = -(-self._ref.size // self.chunk) - first
        count = min(self._window - self._under_way, left)
        if count <= 0:
            return None
        offset = 0 if self._under_way else self._at % self.chunk
        self._under_way += count
        return ChunkAsk(first, self._sequence, count, offset, not self._batches)

    def came(self, seconds: float) -> None:
        """Note how long a chunk took to come after the one before."""
        self._window = max(1, min(WINDOW, 2 * self._window, int(WINDOW_SECONDS / max(seconds, 1e-6))))

    def expects(self, headers: Mapping[str, str], size: int) -> bool:
        """Return whether a message of ``size`` bytes is the next chunk, for ``take``; otherwise it is passed over.

        Raise Refused where the blob cannot be the declared one; Unreachable where it cannot be had now.
        """
        stored = self._batches and SEQUENCE in headers  # a chunk, whose publisher may write a header "Status"
        if not stored and (status := headers.get(STATUS)):
            if status != END or not self._batches:  # an edge that ended batches would be asked without end
                self._fail(status, headers)
            self._under_way = 0
            return False
        if size > self.largest:
            raise Refused("invalid", expected=f"a blob of {self._ref.size} bytes", got="more than that")
        wanted = "" if self.complete else str(self._at // self.chunk)
        if self._batches:
            self._sequence = int(headers.get(SEQUENCE, 0))
            if headers.get(PLACE, wanted) != wanted:
                return False  # a deleted chunk that the broker restored
        inside = 0 if self._batches else self._at % self.chunk
        begins = 0 if self._batches else _number_in(headers.get(PART, "0"))
        if not self._batches:
            if self._came_before(_number_in(headers.get(PLACE, "")), begins, size):
                return False
            if headers.get(PLACE) != wanted or begins is None or begins > inside:
                what = f"blob {self._ref.digest[:12]}"
                raise Unreachable(f"{what}: a chunk of {self._holder} is missing; it is asked again")
        self._known = inside - (begins or 0)
        due = min(self.chunk, self._ref.size - self._at + inside) - (begins or 0)
        least = due if PART not in headers else min(due, max(LEAST_PART, self._known + 1))
        if size > due or (size < least and not self._batches) or not size:
            raise Refused("invalid", expected=f"a blob of {self._ref.size} bytes", got="a chunk of another length"
                          if size < due else "more than that")  # fmt: skip
        return True

    def _came_before(self, place: int | None, begins: int | None, size: int) -> bool:
        """Return whether a part has come already: it was asked for again. Of too many nobody says that any more."""
        if place is None or begins is None or not size or place * self.chunk + begins + size > self._at:
            return False
        self._repeated += size
        return self._repeated <= WINDOW * self.chunk

    def take(self, chunk: bytes | memoryview) -> None:
        """Write the expected chunk, or its part, and note how far the blob has come."""
        chunk = chunk[self._known :]
        self._file.write(chunk)
        self._hasher.update(chunk)
        self._at += len(chunk)
        if not self._batches and self.between_chunks:
            self._under_way -= 1
        if self.complete:
            return
        if self._note is None:
            self._note = self._opened.enter_context(self._place.open("w"))
        self._file.flush()
        self._note.seek(0)  # no truncation: the file system would write the file out each time
        self._note.write(f"{self._sequence} {self._at}\n")
        self._note.flush()

    def prove(self) -> None:
        """Give the complete file its name. Raise Damaged where its bytes are not those of the digest, and as ``check``
        does."""
        self._opened.close()
        if self._note is not None:
            self._place.unlink(missing_ok=True)
        try:
            if self._hasher.hexdigest() != self._ref.digest:
                raise Damaged(f"blob {self._ref.digest[:12]} of {self._holder} arrived damaged; it will be fetched "
                              "again")  # fmt: skip
            if self._check is not None:
                self._check(self._part, self._ref)
        except HeliographError:
            self._part.unlink()
            raise
        self._part.replace(self._target)

    def _fail(self, status: str, headers: Mapping[str, str]) -> None:
        what = f"blob {self._ref.digest[:12]}"
        if status == NOBODY:
            raise NobodyAnswers(f"{what}: nobody answers for {self._holder}")
        if status == REFUSED:
            raise Unreachable(f"{what}: {self._holder} refuses it, since the edge's desired document does not name it")
        self._place.unlink(missing_ok=True)  # missing chunks may be stored again from the first on
        if status == NOT_HELD:
            raise NotHeld(f"{what} is not in {self._holder} yet")
        raise Unreachable(f"{what}: {self._holder} answers {status} {headers.get('Description', '')}".rstrip())

    def _resume(self, noted: str) -> None:
        """Go on after the whole chunks of an earlier attempt that are on disk, and hash them."""
        try:
            sequence, at = (int(word) for word in noted.split("\n")[0].split())
        except ValueError:
            sequence, at = 0, 0
        have = os.fstat(self._file.fileno()).st_size
        if not 0 < at <= min(have, self._ref.size):
            sequence, at = 0, 0
        if at < self._ref.size and self._batches:
            at -= at % self.chunk  # an edge may have sent chunks of another size, and parts
        left = at
        while left:
            block = self._file.read(min(self.chunk, left))
            self._hasher.update(block)
            left -= len(block)
        self._file.truncate(at)
        self._file.seek(at)
        self._at, self._sequence = at, sequence


def _number_in(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def status(code: str) -> dict[str, str]:
    """Return the headers of a message that is no chunk."""
    return {STATUS: code}
