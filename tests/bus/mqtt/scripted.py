"""An MQTT 5 broker that follows a script over a real socket: the test chooses its answers and its cuts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ = 1, 3, 8, 12
NOT_AUTHORIZED = 135
DISCONNECT = bytes((0xE0, 1, NOT_AUTHORIZED))
"""The broker's DISCONNECT with the reason "not authorized" (MQTT 5, 3.14.2.1)."""


class ScriptedBroker:
    """A broker that accepts everything unless its attributes refuse it.

    Attributes:
        connack, puback, suback: reason codes of the answers, 128 or more to refuse; ``puback`` None: no answer.
        after: bytes that follow each PUBACK.
        cut: whether the connection is closed after a PUBLISH.
        heard: the topics of all SUBSCRIBEs.
        not_kept: number of subscriptions at QoS 1 that are refused next, though one at QoS 0 is not.
    """

    def __init__(self) -> None:
        self.connack = self.suback = 0
        self.puback: int | None = 0
        self.after = b""
        self.cut = False
        self.heard: list[str] = []
        self.not_kept = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ScriptedBroker]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"mqtt://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, body = await _packet(reader)
                writer.write(self._answer(kind >> 4, kind, body))
                await writer.drain()
                if (kind >> 4 == PUBLISH and self.cut) or (kind >> 4 == CONNECT and self.connack):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, kind: int, first: int, body: bytes) -> bytes:
        if kind == CONNECT:
            return bytes((0x20, 3, 0, self.connack, 0))
        if kind == PINGREQ:
            return bytes((0xD0, 0))
        if kind == SUBSCRIBE:
            length = int.from_bytes(body[3:5], "big")
            self.heard.append(body[5 : 5 + length].decode())
            if body[5 + length] & 3 and self.not_kept:
                self.not_kept -= 1
                return bytes((0x90, 4, *body[:2], 0, 128))
            return bytes((0x90, 4, *body[:2], 0, self.suback))
        if kind == PUBLISH and first & 0b110:  # QoS 1
            length = int.from_bytes(body[:2], "big")
            answer = b"" if self.puback is None else bytes((0x40, 3, *body[2 + length : 4 + length], self.puback))
            return answer + self.after
        return b""


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, await reader.readexactly(length)
