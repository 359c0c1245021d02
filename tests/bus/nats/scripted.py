"""A NATS server that follows a script over a real socket: the test chooses its answers and its cuts."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

INFO = {"server_id": "scripted", "version": "2.15.0", "headers": True, "max_payload": 9 << 20, "proto": 1,
        "auth_required": True}  # fmt: skip
_SIZE = re.compile(rb"H?PUB .* (\d+)\r\n")


def violation(verb: str, subject: str) -> bytes:
    """Return the error line of nats-server for a missing permission; ``verb`` is ``Publish`` or ``Subscription``."""
    return f"-ERR 'Permissions Violation for {verb} to \"{subject}\"'\r\n".encode()


@dataclass
class Answer:
    """The server's answer to the first line that begins with ``line``.

    ``cut`` ends the connection after it: ``end`` like a server that closes, ``reset`` like one with unread bytes.
    """

    line: str
    says: bytes = b""
    cut: str = ""


class ScriptedServer:
    """A server that greets, answers pings, and gives each answer of the script once.

    Attributes:
        login: error line that refuses the login in place of the first PONG; empty to accept it.
        seen: the protocol lines of all connections.
    """

    def __init__(self, *script: Answer, login: bytes = b"") -> None:
        self.script = list(script)
        self.login = login
        self.seen: list[str] = []
        self._came = asyncio.Event()
        self.connections = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ScriptedServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://me:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def saw(self, beginning: str) -> None:
        """Wait until a line that begins so has come."""
        while not any(line.startswith(beginning) for line in self.seen):
            self._came.clear()
            await self._came.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            writer.write(b"INFO " + json.dumps(INFO).encode() + b"\r\n")
            while line := await reader.readline():
                if found := _SIZE.match(line):
                    await reader.readexactly(int(found.group(1)) + 2)
                if not await self.answer(line.decode().strip(), writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, line: str, writer: asyncio.StreamWriter) -> bool:
        """Answer a line; return whether the connection goes on."""
        self.seen.append(line)
        self._came.set()
        if line == "PING":
            writer.write(self.login or b"PONG\r\n")
            if self.login:
                return False
        answer = next((each for each in self.script if line.startswith(each.line)), None)
        if answer is None:
            return True
        self.script.remove(answer)
        writer.write(answer.says)
        await writer.drain()
        if answer.cut == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return not answer.cut
