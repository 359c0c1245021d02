"""An HTTP proxy that only knows CONNECT, as many firewalls have one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from heliograph.core.tasks import Background


@dataclass
class HttpProxy:
    """A running proxy.

    Attributes:
        port: where it listens on loopback.
        login: ``user:password`` that it wants; empty for none.
        allowed: ports that it leads to; empty for all.
        asked: the addresses that clients asked for.
    """

    port: int = 0
    login: str = ""
    allowed: tuple[int, ...] = ()
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            verb, address, _ = head.split("\r\n")[0].split(" ")
            assert verb == "CONNECT"
            self.asked.append(address)
            if self.login and f"Basic {base64.b64encode(self.login.encode()).decode()}" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            elif self.allowed and int(address.rpartition(":")[2]) not in self.allowed:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            else:
                host, _, port = address.rpartition(":")
                there, back = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
        writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


@asynccontextmanager
async def http_proxy(login: str = "", allowed: tuple[int, ...] = ()) -> AsyncIterator[HttpProxy]:
    """Serve on a free port of loopback."""
    proxy = HttpProxy(login=login, allowed=allowed)
    background = Background(print)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        background.spawn(proxy.serve(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await background.close()
