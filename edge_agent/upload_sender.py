"""Send this node's uploads to the cloud, when it asks for chunks of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

from heliograph.bus.arriving_blob import NOT_HELD, ChunkAsk
from heliograph.bus.blob_sources import UPLOAD_CHUNK_BYTES
from heliograph.bus.contract.payloads import BlobAsk
from heliograph.bus.contract.topics import UPLOAD_ASK, UPLOAD_CHUNK
from heliograph.bus.port import Port
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Flag, cancel_and_wait

MOST_WAITING = 256
"""Asks that wait for their turn, at most; whoever asks in vain asks again."""


class UploadSender:
    """Answers asks on the topic of this node's edge alone, one after the other: they share one link.

    An ask that is repeated while its chunks are on their way is no other one. One that goes back to what was asked for
    before takes its place: of the rest of that nobody makes anything.

    Args:
        find: returns the file of a digest; None where this node does not hold it.
    """

    def __init__(self, cloud: Port, edge: str, find: Callable[[str], Path | None], failures: Failures) -> None:
        self._cloud = cloud
        self._edge = edge
        self._find = find
        self._failures = failures
        self._waiting: deque[BlobAsk] = deque(maxlen=MOST_WAITING)
        self._asked = Flag()
        self._current: BlobAsk | None = None
        self._sending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer until cancelled."""
        async with self._cloud.subscribe(UPLOAD_ASK, self._refused, edge=self._edge) as received:
            answering = asyncio.create_task(self._answer_all())
            try:
                async for each in received:
                    self._take(each.payload)
            finally:
                await cancel_and_wait(answering)

    def _take(self, ask: BlobAsk) -> None:
        under_way = [*self._waiting, *([self._current] if self._current is not None else [])]
        same = [each for each in under_way if each.id == ask.id and ask.place < each.place + each.count]
        if any((each.place, each.offset) == (ask.place, ask.offset) for each in same):
            return
        for each in same:
            if each in self._waiting:
                self._waiting.remove(each)
            elif self._sending is not None:
                self._sending.cancel()
        self._waiting.append(ask)
        self._asked.set()

    async def _answer_all(self) -> None:
        try:
            while True:
                await self._asked.wait()
                if not self._waiting:
                    self._asked.clear()
                    continue
                self._current = self._waiting.popleft()
                self._sending = asyncio.create_task(self._answer(self._current))
                await asyncio.wait((self._sending,))
                self._note_end(self._sending, self._current)
                self._current = None
        finally:
            if self._sending is not None:
                await cancel_and_wait(self._sending)

    def _note_end(self, sending: asyncio.Task[None], ask: BlobAsk) -> None:
        if not sending.cancelled() and isinstance(error := sending.exception(), Exception):  # who asked asks again
            self._failures.add(f"upload {ask.digest[:12]}", error)

    async def _answer(self, ask: BlobAsk) -> None:
        to = UPLOAD_CHUNK.at(edge=self._edge, id=ask.id)
        file = self._find(ask.digest)
        if file is not None:
            asked = ChunkAsk(ask.place, 0, ask.count, ask.offset, ask.parts)
            with contextlib.suppress(FileNotFoundError):  # settled meanwhile
                await self._cloud.bus.send_parts(to, file, asked, UPLOAD_CHUNK_BYTES)
                return
        await self._cloud.bus.send_status(to, NOT_HELD)

    def _refused(self, error: Refused) -> None:
        self._failures.add(error.topic, error)
