"""Send this node's uploads to the cloud, when it asks for chunks of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from heliograph.bus.arriving_blob import NOT_HELD, ChunkAsk
from heliograph.bus.blob_sources import UPLOAD_CHUNK_BYTES
from heliograph.bus.contract.payloads import BlobAsk
from heliograph.bus.contract.topics import UPLOAD_ASK, UPLOAD_CHUNK
from heliograph.bus.port import Port
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures


class UploadSender:
    """Answers asks on the topic of this node's edge alone, one after the other: they share one link.

    Args:
        find: returns the file of a digest; None where this node does not hold it.
    """

    def __init__(self, cloud: Port, edge: str, find: Callable[[str], Path | None], failures: Failures) -> None:
        self._cloud = cloud
        self._edge = edge
        self._find = find
        self._failures = failures

    async def run(self) -> None:
        """Answer until cancelled."""
        async with self._cloud.subscribe(UPLOAD_ASK, self._refused, edge=self._edge) as received:
            async for each in received:
                try:
                    await self._answer(each.payload)
                except Exception as error:  # who asked asks again
                    self._failures.add(f"upload {each.payload.digest[:12]}", error)

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
