"""What a worker prints that is a task: lines in memory, for its agent to read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator


class Lines(AsyncIterator[str]):
    """Lines that are said at one end and read at the other, until it is ended."""

    def __init__(self) -> None:
        self._said: deque[str] = deque()
        self._ended = False
        self._reader: asyncio.Future[None] | None = None

    def say(self, text: str) -> None:
        self._said.extend(text.split("\n"))
        self._wake()

    def end(self) -> None:
        """Nothing more is said; what was said is still read."""
        self._ended = True
        self._wake()

    async def __anext__(self) -> str:
        while not self._said:
            if self._ended:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._said.popleft()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
