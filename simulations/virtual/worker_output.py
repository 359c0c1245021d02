"""The output of a worker that runs as a task: lines in memory, read by its agent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator


class Lines(AsyncIterator[str]):
    """A queue of lines between a worker and its agent."""

    def __init__(self) -> None:
        self._unread: deque[str] = deque()
        self._ended = False
        self._reader: asyncio.Future[None] | None = None

    def say(self, text: str) -> None:
        self._unread.extend(text.split("\n"))
        self._wake()

    def end(self) -> None:
        """End the output; unread lines can still be read."""
        self._ended = True
        self._wake()

    async def __anext__(self) -> str:
        while not self._unread:
            if self._ended:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._unread.popleft()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
