"""Connect to a broker's place, directly or by the URL's proxy: for an event loop, and for a thread."""

from __future__ import annotations

import asyncio
import socket

from heliograph.bus.proxy import MAX_HEAD, Proxy, ProxyFailed

_END = b"\r\n\r\n"


async def dial(
    host: str, port: int, proxy: Proxy | None, limit: int, seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return reader and writer of a TCP connection. Raise OSError, and TimeoutError after ``seconds``."""
    async with asyncio.timeout(seconds):
        if proxy is None:
            return await asyncio.open_connection(host, port, limit=limit)
        try:
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port, limit=max(limit, MAX_HEAD))
        except OSError as error:
            raise proxy.unreachable(error) from None
        address = _address(host, port)
        try:
            writer.write(proxy.request(address))
            proxy.check(await _head(reader, proxy), address)
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer


def dial_socket(host: str, port: int, proxy: Proxy | None, seconds: float) -> socket.socket:
    """Return a connected socket with that time limit. Raise OSError."""
    if proxy is None:
        return socket.create_connection((host, port), seconds)
    try:
        made = socket.create_connection((proxy.host, proxy.port), seconds)
    except OSError as error:
        raise proxy.unreachable(error) from None
    address = _address(host, port)
    try:
        made.sendall(proxy.request(address))
        head = b""
        while not head.endswith(_END):  # by bytes: what follows the head is the broker's
            more = made.recv(1)
            if not more or len(head) >= MAX_HEAD:
                break
            head += more
        proxy.check(head, address)
    except BaseException:
        made.close()
        raise
    return made


async def _head(reader: asyncio.StreamReader, proxy: Proxy) -> bytes:
    try:
        return await reader.readuntil(_END)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ProxyFailed(f"what listens at {proxy.shown} is no HTTP proxy", "Mend the proxy's address.") from None


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
