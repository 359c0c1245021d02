"""The door by which a worker's pod comes to its agent: a socket in the directory that only the two see.

One pod at a time has the worker. Another one, such as the successor of a pod that still runs, waits until it is gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from heliograph import __version__
from heliograph.core.errors import Refused
from heliograph.core.pod_channel import PROTOCOL, SOCKET, Unpacker, packed, socket_path
from heliograph.core.tasks import cancel_and_wait

HELLO_WITHIN = 10.0
"""Seconds in which a pod that has connected says who it is."""
MOST_CONNECTIONS = 8
"""Connections to one door at a time; further ones are closed."""
TAKES_WITHIN = 10.0
"""Seconds in which a pod takes a message; one that does not is let go."""
QUEUED = 64
"""Messages of a pod that wait for their reader, at most; then the pod waits."""


class PodConnection:
    """A pod that is there. ``messages`` ends when it is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unpacker = Unpacker()
        self._read: list[dict[str, Any]] = []
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(QUEUED)
        self._pumping: asyncio.Task[None] | None = None

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message; None where the pod is gone. Raise Refused for what is no message."""
        while not self._read:
            if not (data := await self._reader.read(65536)):
                return None
            self._read = self._unpacker.feed(data)
        return self._read.pop(0)

    async def follow(self) -> None:
        """Take the pod's messages until it is gone, or let go; ``messages`` has them. Raise as ``receive`` does."""
        self._pumping = asyncio.ensure_future(self._pump())
        try:
            await asyncio.wait((self._pumping,))
        finally:
            await cancel_and_wait(self._pumping)
        if not self._pumping.cancelled():
            self._pumping.result()

    async def _pump(self) -> None:
        try:
            while (message := await self.receive()) is not None:
                await self._queue.put(message)
            await self._queue.put(None)
        except BaseException:
            while self._queue.full():  # the end matters more than the last line
                self._queue.get_nowait()
            self._queue.put_nowait(None)
            raise
        finally:
            self._writer.close()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages until the pod is gone."""
        while (message := await self._queue.get()) is not None:
            yield message

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message; do nothing where the pod is gone."""
        self._writer.write(packed(message))
        try:
            async with asyncio.timeout(TAKES_WITHIN):
                await self._writer.drain()
        except TimeoutError:
            self.close()
        except OSError:
            pass

    def close(self) -> None:
        """Let the pod go, also where nobody reads the messages that it has sent."""
        self._writer.close()
        if self._pumping is not None:
            self._pumping.cancel()


class PodDoor:
    """One worker's door.

    Attributes:
        identity: of the pod that is let in.
        problem: why the last pod that came was not.
        news: set when there is another problem.
    """

    def __init__(self, directory: Path, identity: str) -> None:
        self._directory = directory
        self.identity = identity
        self.problem = ""
        self.news = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._turn = asyncio.Lock()
        self._present: PodConnection | None = None
        self._changed = asyncio.Event()
        self._taking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. Raise OSError."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            (self._directory / SOCKET).unlink(missing_ok=True)  # an agent that was killed leaves it
            os.fchmod(listening.fileno(), 0o600)  # the file gets it from there: the pod may write in the directory
            with socket_path(self._directory) as path:
                listening.bind(path)
            listening.setblocking(False)
            self._server = await asyncio.start_unix_server(self._come, sock=listening, backlog=MOST_CONNECTIONS)
        except OSError:
            listening.close()
            raise

    def expect(self, identity: str) -> None:
        """Let pods of another identity in from now on; the one that is there goes."""
        if identity != self.identity:
            self.identity, self.problem = identity, ""
            if self._present is not None:
                self._present.close()
                self._present = None

    async def pod(self) -> PodConnection:
        """Wait for the pod."""
        while self._present is None:
            self._changed.clear()
            await self._changed.wait()
        return self._present

    def close(self) -> None:
        """Let the pod go, and listen no longer."""
        if self._server is not None:
            self._server.close()
        for task in self._taking:
            task.cancel()
        (self._directory / SOCKET).unlink(missing_ok=True)

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._taking.add(task)
        connection = PodConnection(reader, writer)
        try:
            if len(self._taking) <= MOST_CONNECTIONS:
                await self._take(connection)
        except TimeoutError:
            self._note(f"what came by its pod's socket did not say within {HELLO_WITHIN:g} s which pod it is")
        except Refused as error:
            self._note(f"what came by its pod's socket was not understood: {error}")
        except OSError:  # it is gone, with something unread
            pass
        except asyncio.CancelledError:  # the door is closed; asyncio would log the cancellation of a server's task
            pass
        finally:
            connection.close()
            self._taking.discard(task)

    async def _take(self, connection: PodConnection) -> None:
        async with asyncio.timeout(HELLO_WITHIN):
            hello = await connection.receive()
        if hello is None:
            return
        async with self._turn:
            if problem := self._objection(hello.get("hello")):
                self._note(problem)
                await connection.send({"refused": problem})
                return
            self._present, self.problem = connection, ""
            self._changed.set()
            try:
                await connection.follow()
            finally:
                if self._present is connection:
                    self._present = None

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self.news.set()

    def _objection(self, hello: Any) -> str:
        """Return why the pod is not let in."""
        told = hello if isinstance(hello, dict) else {}
        if told.get("protocol") != PROTOCOL:
            version = str(told.get("version"))[:40]
            return (f"its image has heliograph {version}, whose pods speak protocol {str(told.get('protocol'))[:20]}; "
                    f"expected protocol {PROTOCOL}, as heliograph {__version__} on this node")  # fmt: skip
        if told.get("pod") != self.identity:
            return "a pod of another job, or of earlier settings, is still here"
        return ""
