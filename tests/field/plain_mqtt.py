"""MQTT 3.1.1 by hand, as a small device speaks it: over TCP, or over WebSocket as a browser does."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

PUBLISH, PUBACK = 0x30, 0x40


@dataclass
class PlainMqtt:
    """A client with a clean session. It keeps nothing, sends no ping, and takes packets of 256 bytes at most unless it
    is told otherwise.

    Attributes:
        write, read: the bytes that go out, and as many that come in as are asked for.
        buffer: the longest packet, as small devices have one.
    """

    write: Callable[[bytes], None]
    read: Callable[[int], Coroutine[Any, Any, bytes]]
    close: Callable[[], None]
    buffer: int = 256
    _sent: int = 0
    _came: list[tuple[str, bytes]] = field(default_factory=list)

    @classmethod
    async def by_tcp(cls, port: int, buffer: int = 256) -> Self:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        return cls(writer.write, reader.readexactly, writer.transport.abort, buffer)

    @classmethod
    async def by_websocket(cls, port: int, path: str = "/mqtt", buffer: int = 65_536) -> Self:
        """Connect as a page does: subprotocol ``mqtt``, masked binary frames."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 101 " in head and b"sec-websocket-protocol: mqtt" in head, head
        arrived = bytearray()

        def write(data: bytes) -> None:
            size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
            writer.write(b"\x82" + size + bytes(4) + data)  # a mask of zeros leaves the bytes as they are

        async def read(count: int) -> bytes:
            while len(arrived) < count:
                first, size = await reader.readexactly(2)
                if size == 126:
                    (size,) = struct.unpack(">H", await reader.readexactly(2))
                content = await reader.readexactly(size)
                if first & 0x0F == 2:
                    arrived.extend(content)
            found = bytes(arrived[:count])
            del arrived[:count]
            return found

        return cls(write, read, writer.transport.abort, buffer)

    async def connect(self, name: str, user: str = "", password: str = "", keepalive: int = 60) -> None:
        flags = 0xC2 if user else 0x02
        login = _text(user) + _text(password) if user else b""
        self._send(0x10, _text("MQTT") + bytes([4, flags]) + struct.pack(">H", keepalive) + _text(name) + login)
        kind, body = await self._packet()
        assert (kind, body) == (0x20, b"\0\0"), f"CONNACK {body!r}"

    async def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        """Publish; at QoS 1 return once the broker has acknowledged it."""
        number = b""
        if qos:
            self._sent = self._sent % 65_535 + 1
            number = struct.pack(">H", self._sent)
        self._send(PUBLISH | qos << 1 | retain, _text(topic) + number + payload)
        while number:
            kind, body = await self._packet()
            if kind == PUBACK and body == number:
                return
            self._take(kind, body)

    async def subscribe(self, topic: str, qos: int = 0) -> None:
        self._send(0x82, b"\0\1" + _text(topic) + bytes([qos]))
        while (packet := await self._packet())[0] != 0x90:
            self._take(*packet)
        assert packet[1] == bytes([0, 1, qos]), f"SUBACK {packet[1]!r}"

    async def message(self) -> tuple[str, bytes]:
        """Return the next message that comes."""
        while not self._came:
            self._take(*await self._packet())
        return self._came.pop(0)

    def _take(self, kind: int, body: bytes) -> None:
        if kind & 0xF0 != PUBLISH:
            return
        (size,) = struct.unpack(">H", body[:2])
        topic, rest = body[2 : 2 + size], body[2 + size :]
        if kind & 0x06:
            self._send(PUBACK, rest[:2])
            rest = rest[2:]
        self._came.append((topic.decode(), rest))

    def _send(self, kind: int, body: bytes) -> None:
        size, length = len(body), b""
        while True:
            size, low = divmod(size, 128)
            length += bytes([low | (0x80 if size else 0)])
            if not size:
                break
        packet = bytes([kind]) + length + body
        assert len(packet) <= self.buffer, f"a packet of {len(packet)} bytes"
        self.write(packet)

    async def _packet(self) -> tuple[int, bytes]:
        kind = (await self.read(1))[0]
        size = shift = 0
        while True:
            byte = (await self.read(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert size <= self.buffer, f"a packet of {size} bytes"
        return kind, await self.read(size) if size else b""


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()
