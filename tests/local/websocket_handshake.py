"""A browser's first request to a WebSocket listener."""

from __future__ import annotations

import asyncio
import base64
import ssl


async def handshake(port: int, origin: str = "", path: str = "/", tls: ssl.SSLContext | None = None) -> int:
    """Ask for a WebSocket as a page of ``origin`` does, a program if it is empty; return the HTTP status."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}", "Sec-WebSocket-Version: 13",
             *([f"Origin: {origin}"] if origin else []), "", ""]  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write("\r\n".join(lines).encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    return int(status)
