"""Consume a stream of the hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from heliograph.bus.memory.connection import MemoryConnection
from heliograph.bus.memory.hub import KeptStream
from heliograph.bus.transport import Message


class MemoryConsumer(AsyncIterator[Message]):
    """A stream's messages from a sequence on; it waits for more at the stream's end."""

    def __init__(
        self, connection: MemoryConnection, stream: KeptStream, pattern: str, start: int, durable: str
    ) -> None:
        self._link = connection.link
        self._stream = stream
        self._pattern = pattern
        self._place = start - 1
        self._done = connection.hub.acknowledged.setdefault(durable, set()) if durable else None
        self._seen = connection.hub.delivered.setdefault(durable, set())

    async def __anext__(self) -> Message:
        while True:
            await self._link.wait_up()
            kept = self._stream.following(self._place, self._pattern)
            if kept is None:
                await self._stream.grown()
                continue
            self._place = kept.sequence
            if self._done is None:
                return Message(kept.topic, kept.body, headers=kept.headers, sequence=kept.sequence)
            if kept.sequence in self._done:
                continue
            again = kept.sequence in self._seen
            self._seen.add(kept.sequence)
            acknowledge = self._acknowledging(self._done, kept.sequence)
            return Message(kept.topic, kept.body, None, kept.headers, None, kept.sequence, again, False, acknowledge)

    @staticmethod
    def _acknowledging(done: set[int], sequence: int) -> Callable[[], Awaitable[None]]:
        async def acknowledge() -> None:
            done.add(sequence)

        return acknowledge
