"""Answer edges that ask for chunks of a blob: the cloud's broker sends them from the bucket to the asking edge.

No byte passes this process, and it remembers nothing about a transfer. An ask that nobody takes, since a coordinator
has been killed and the next one does not lead yet, is asked again.
"""

from __future__ import annotations

from collections.abc import Callable

from heliograph.bus.arriving_blob import NOBODY, REFUSED, ChunkAsk
from heliograph.bus.contract import buckets
from heliograph.bus.contract.payloads import BlobAsk
from heliograph.bus.contract.topics import BLOB_ASK, BLOB_CHUNK
from heliograph.bus.port import Port, Received
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures

FOR_EDGES = (buckets.MODELS, buckets.PACKAGES, buckets.DATASETS, buckets.SHARDS)
"""The buckets that edges fetch from."""


class BlobRelay:
    """Answers asks until cancelled.

    Args:
        may_fetch: returns whether an edge may have a blob; None where nobody can say yet.
    """

    def __init__(self, port: Port, may_fetch: Callable[[str, str], bool | None], failures: Failures) -> None:
        self._port = port
        self._may_fetch = may_fetch
        self._failures = failures

    async def run(self) -> None:
        async with self._port.subscribe(BLOB_ASK, self._refused) as received:
            async for each in received:
                try:
                    await self._answer(each)
                except Exception as error:  # the edge asks again
                    self._failures.add(each.message.topic, error)

    async def _answer(self, received: Received[BlobAsk]) -> None:
        ask, edge = received.payload, received.params["edge"]
        to = BLOB_CHUNK.at(edge=edge, id=ask.id)
        allowed = ask.bucket in FOR_EDGES and self._may_fetch(edge, ask.digest)
        if allowed is None:
            await self._port.bus.send_status(to, NOBODY)
            return
        if not allowed:
            await self._port.bus.send_status(to, REFUSED)
            raise Refused("forbidden", topic=received.message.topic, field="digest", got=f"{ask.bucket} {ask.digest}",
                          expected=f"a blob that the desired document of {edge} names")  # fmt: skip
        bucket = await self._port.bus.blobs(ask.bucket)
        await bucket.send_chunks(ask.digest, ChunkAsk(ask.place, ask.sequence, ask.count), to)

    def _refused(self, error: Refused) -> None:
        self._failures.add(error.topic, error)
