"""A door for Label Studio's webhooks: each is a hint that a task has changed, and nothing in it is believed.

HTTP/1.1 as far as a webhook needs it. A request without the secret header is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Callable

SECRET_HEADER = "X-Heliograph-Secret"
MAX_HEAD, MAX_BODY = 16 << 10, 4 << 20
SECONDS = 10.0
"""Seconds that one request may take."""


class WebhookDoor:
    """Listens on a port.

    Args:
        secret: what the header has to be.
        changed: called with the number of the task that an event names.
    """

    def __init__(self, host: str, port: int, secret: str, changed: Callable[[int], None]) -> None:
        self._host = host
        self._port = port
        self._secret = secret
        self._changed = changed
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, also where 0 was asked for."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=MAX_HEAD)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = "400 Bad Request"
        unreadable = (TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError)
        with contextlib.suppress(*unreadable):
            async with asyncio.timeout(SECONDS):
                status = await self._handle(reader)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    async def _handle(self, reader: asyncio.StreamReader) -> str:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if not head[0].startswith("POST "):
            return "405 Method Not Allowed"
        if not hmac.compare_digest(headers.get(SECRET_HEADER.lower(), "").encode(), self._secret.encode()):
            return "403 Forbidden"
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= MAX_BODY):
            return "413 Content Too Large"
        task = _task_in(await reader.readexactly(int(length)))
        if task is not None:
            self._changed(task)
        return "200 OK"


def _task_in(body: bytes) -> int | None:
    """Return the number of the task that an event is about; None where it names none."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    annotation = event.get("annotation")
    task = annotation.get("task") if isinstance(annotation, dict) else None
    if task is None and isinstance(event.get("task"), dict):
        task = event["task"].get("id")
    return task if type(task) is int and task >= 0 else None
