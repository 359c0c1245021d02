"""A blocking socket that waits as long as bytes pass, however slowly, and gives up once none do."""

from __future__ import annotations

import io
import os
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from heliograph.bus.link_life import LinkLife
from heliograph.bus.link_pace import LinkPace
from heliograph.bus.socket_backlog import unacknowledged

BEAT = 0.5
"""Seconds after which the other side hears that this one still waits, and this one looks whether bytes pass."""
_PIECE = 16 * 1024
"""Bytes of one write through TLS: it is written whole, or again."""


class Readable(Protocol):
    """What a reader reads from."""

    def recv_into(self, target: memoryview) -> int: ...


class PatientSocket:
    """A connected socket.

    Args:
        silence: seconds in which nothing passes after which it gives up, on a link that is fast.

    Attributes:
        beat: called while it waits for bytes.
        hurried: whether it waits for ``settimeout`` alone, and for nothing else.
    """

    def __init__(
        self, raw: socket.socket, pace: LinkPace, silence: float, clock: Callable[[], float]
    ) -> None:
        self._raw = raw
        self._clock = clock
        self._life = LinkLife(pace, silence, clock())
        self.beat: Callable[[], None] = lambda: None
        self.hurried = False
        self._beaten = clock()
        self._beating = False
        raw.settimeout(BEAT)

    def begin(self) -> None:
        """Begin to wait only now: nobody has asked for anything before."""
        self._life.heard(self._clock())

    def recv_into(self, target: memoryview) -> int:
        """Fill a part of ``target``; return its size, 0 at the end of the connection. Raise OSError."""
        while True:
            self._beat_in_time()
            try:
                count = self._raw.recv_into(target)
            except TimeoutError:
                self._wait()
            else:
                self._life.heard(self._clock())
                return count

    def recv(self, most: int) -> bytes:
        """Return up to so many bytes; none at the end of the connection. Raise OSError."""
        target = bytearray(most)
        return bytes(target[: self.recv_into(memoryview(target))])

    def sendall(self, data: bytes | memoryview) -> None:
        """Hand all bytes over to the kernel. Raise OSError."""
        left = memoryview(data).cast("B")
        while left:
            try:
                sent = self._raw.send(left[:_PIECE] if isinstance(self._raw, ssl.SSLSocket) else left)
            except TimeoutError:
                self._wait()
            else:
                self._note_sent(sent)
                left = left[sent:]

    def sendfile(self, file: BinaryIO, offset: int, count: int) -> int:
        """Send a part of a file, without a copy where there is no TLS; return how many bytes of it there were."""
        if isinstance(self._raw, ssl.SSLSocket):
            return send_pieces(self, file, offset, count)
        sent, room = 0, select.poll()
        room.register(self._raw, select.POLLOUT)
        while sent < count:
            try:
                more = os.sendfile(self._raw.fileno(), file.fileno(), offset + sent, count - sent)
            except BlockingIOError:
                if not room.poll(1000 * BEAT):
                    self._wait()
                continue
            if not more:
                break
            self._note_sent(more)
            sent += more
        return sent

    @property
    def has_room(self) -> bool:
        """Whether a few bytes would be written at once."""
        room = select.poll()
        room.register(self._raw, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in room.poll(0))

    def fileno(self) -> int:
        return self._raw.fileno()

    def settimeout(self, seconds: float) -> None:
        self._raw.settimeout(seconds)

    def close(self) -> None:
        self._raw.close()

    def _note_sent(self, count: int) -> None:
        if not self._beating:
            self._life.wrote(count)

    def _wait(self) -> None:
        """Take note that nothing has passed for a while. Raise TimeoutError once that is too long."""
        if self.hurried:
            raise TimeoutError("timed out")
        now = self._clock()
        self._life.look(unacknowledged(self._raw), now)
        if self._life.is_cut(now):
            raise TimeoutError("timed out")

    def _beat_in_time(self) -> None:
        if not self.hurried and self._clock() - self._beaten >= BEAT:
            self._beaten = self._clock()
            self._beating = True
            self.beat()
            self._beating = False


class _Raw(io.RawIOBase):
    def __init__(self, source: Readable) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        return self._source.recv_into(memoryview(target))


def reader_of(source: Readable, buffering: int) -> io.BufferedReader:
    """Return a buffered reader."""
    return io.BufferedReader(_Raw(source), buffering)


class _Sends(Protocol):
    def sendall(self, data: bytes | memoryview) -> None: ...


def send_pieces(to: _Sends, file: BinaryIO, offset: int, count: int, piece: int = 256 * 1024) -> int:
    """Send a part of a file piece by piece; return how many bytes of it there were."""
    file.seek(offset)
    sent = 0
    while sent < count and (part := file.read(min(piece, count - sent))):
        to.sendall(part)
        sent += len(part)
    return sent
