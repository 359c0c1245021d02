"""The client library's connection over WebSocket, directly or by a proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import ParseResult

from heliograph.bus.nats.library_client import Connection
from heliograph.bus.nats.web_socket import Frames
from heliograph.bus.proxy import Proxy

_CHUNK = 64 * 1024


class WebSocketConnection(Connection):
    """A TCP connection, with TLS for ``wss``, whose bytes travel in frames."""

    def __init__(self, proxy: Proxy | None, clock: Callable[[], float]) -> None:
        super().__init__(proxy, clock)
        self._frames: Frames | None = None
        self._arrived = bytearray()

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        async with asyncio.timeout(connect_timeout):
            await super().connect(uri, buffer_size, connect_timeout)
            await self._open(uri)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        """Connect. The library calls this again with a host name where the server requires TLS: it has it then."""
        if isinstance(uri, str):
            return
        async with asyncio.timeout(connect_timeout):
            await super().connect(uri, buffer_size, connect_timeout)
            await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
            await self._open(uri)

    async def _open(self, uri: ParseResult) -> None:
        self._frames = Frames(uri.geturl())
        super().write(self._frames.hello())
        while not self._frames.open:
            if not await self._receive():
                raise ConnectionResetError("the connection ended before the broker answered")

    async def _receive(self) -> bool:
        """Take what comes next; return whether the connection goes on."""
        assert self._frames is not None
        received = await super().read(_CHUNK)
        self._arrived += self._frames.feed(received)
        if received and (answer := self._frames.to_send()):
            super().write(answer)
        return bool(received)

    async def read(self, buffer_size: int) -> bytes:
        while not self._arrived:
            if not await self._receive():
                return b""
        found, self._arrived = bytes(self._arrived), bytearray()
        return found

    async def _line(self) -> bytes:
        while (end := self._arrived.find(b"\n")) < 0:
            if not await self._receive():
                end = len(self._arrived) - 1
                break
        found = bytes(self._arrived[: end + 1])
        del self._arrived[: end + 1]
        return found

    def write(self, payload: bytes) -> None:
        assert self._frames is not None
        super().write(self._frames.wrap(payload))

    def writelines(self, payload: Sequence[bytes]) -> None:
        self.write(b"".join(payload))

    def at_eof(self) -> bool:
        return not self._arrived and bool(super().at_eof())  # type: ignore[no-untyped-call]
