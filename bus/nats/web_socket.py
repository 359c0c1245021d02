"""NATS in WebSocket frames (RFC 6455): for brokers that only port 443 leads to."""

from __future__ import annotations

import importlib.util
from typing import BinaryIO

from heliograph.bus.nats.patient_socket import PatientSocket, send_pieces
from heliograph.core.errors import Refused

MAX_FRAME = 32 * 1024 * 1024
"""Bytes of one message of a server, at most: more than its largest payload."""
_PART = 256 * 1024


def require_websockets(shown: str) -> None:
    """Raise Refused where the library is not installed."""
    if importlib.util.find_spec("websockets") is None:
        raise Refused("unsupported", field="url", expected="nats:// or tls://", got=shown,
                      hint="NATS over WebSocket needs a library: pip install heliograph[websocket]")  # fmt: skip


class Frames:
    """The client's side of one connection, without I/O: bytes of a stream to bytes of the network, and back."""

    def __init__(self, url: str) -> None:
        from websockets.client import ClientProtocol
        from websockets.frames import Opcode
        from websockets.uri import parse_uri

        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_FRAME)
        self._data = (Opcode.BINARY, Opcode.CONT)
        self._answered = False

    def hello(self) -> bytes:
        """Return the request that opens the connection."""
        self._protocol.send_request(self._protocol.connect())
        return self.to_send()

    @property
    def open(self) -> bool:
        """Whether the server has agreed."""
        return self._answered

    def wrap(self, data: bytes | memoryview) -> bytes:
        """Return bytes of the stream as they are sent."""
        self._protocol.send_binary(data)
        return self.to_send()

    def feed(self, received: bytes) -> bytes:
        """Take bytes that have arrived, none for the end of the connection; return those of the stream. Send what
        ``to_send`` has then. Raise ConnectionError where the server refuses, or breaks the protocol."""
        if received:
            self._protocol.receive_data(received)
        else:
            self._protocol.receive_eof()
        parts = []
        for event in self._protocol.events_received():
            if (opcode := getattr(event, "opcode", None)) is None:
                self._answered = self._protocol.handshake_exc is None
            elif opcode in self._data:
                parts.append(bytes(event.data))  # type: ignore[union-attr]
        if (error := self._protocol.handshake_exc) is not None:
            raise ConnectionError(f"no WebSocket is opened: {error}")
        if (broken := self._protocol.parser_exc) is not None and not isinstance(broken, EOFError):
            raise ConnectionError(f"the server breaks WebSocket's protocol: {broken}")
        return b"".join(parts)

    def to_send(self) -> bytes:
        """Return what the protocol wants to send: frames, and answers to pings."""
        return b"".join(self._protocol.data_to_send())


class WebSocketSocket:
    """A blocking socket whose bytes travel in frames, as far as ``BulkLink`` uses one. Raise OSError."""

    def __init__(self, raw: PatientSocket, url: str) -> None:
        self._raw = raw
        self._frames = Frames(url)
        self._arrived = bytearray()
        raw.sendall(self._frames.hello())
        while not self._frames.open:
            self._receive()

    def sendall(self, data: bytes | memoryview) -> None:
        self._raw.sendall(self._frames.wrap(data))

    def sendfile(self, file: BinaryIO, offset: int, count: int) -> int:
        """Send a part of a file; return how many bytes of it there were."""
        return send_pieces(self, file, offset, count)

    def recv_into(self, target: memoryview) -> int:
        """Fill a part of ``target``; return its size, 0 at the end of the connection."""
        while not self._arrived:
            if not self._receive():
                return 0
        count = min(len(target), len(self._arrived))
        target[:count] = self._arrived[:count]
        del self._arrived[:count]
        return count

    def _receive(self) -> bool:
        """Take what comes next; return whether the connection goes on."""
        received = self._raw.recv(_PART)
        self._arrived += self._frames.feed(received)
        if received and (answer := self._frames.to_send()):
            self._raw.sendall(answer)
        return bool(received)
