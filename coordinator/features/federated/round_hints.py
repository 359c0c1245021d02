"""Tell the edges of a job that a round has closed: which model to fetch, and which uploads they need not keep.

Hints alone: an edge that misses them fetches the model when its desired document names it, and lets an upload go some
minutes after its job asks for nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection

from heliograph.bus.contract.payloads import Aggregation, ModelReady, UploadSettled
from heliograph.bus.contract.payloads.blobs import MAX_SETTLED
from heliograph.bus.contract.topics import MODEL_READY, UPLOAD_SETTLED
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError


class RoundHints:
    """Publishes hints.

    Args:
        let_fetch: called with edge, job's uid and digest of a model that the edge may fetch from now on.
    """

    def __init__(self, port: Port, let_fetch: Callable[[str, str, str], None]) -> None:
        self._port = port
        self._let_fetch = let_fetch

    async def tell(self, closed: Aggregation, edges: Collection[str]) -> None:
        """Tell a closed round to those of ``edges`` that train in it, and to those whose uploads it has settled."""
        hints: list[Awaitable[None]] = []
        uploads: dict[str, list[str]] = {}
        for edge, digest in sorted(closed.uploads()):
            uploads.setdefault(edge, []).append(digest)
        model = closed.model
        if model is not None and model.inline is None:
            for edge in edges:
                self._let_fetch(edge, closed.job_uid, model.digest)
                settled = uploads.pop(edge, [])[:MAX_SETTLED]
                hints.append(self._model_ready(edge, ModelReady(
                    job=closed.job, job_uid=closed.job_uid, round=closed.round, model=model, settled=settled
                )))  # fmt: skip
        hints += [self._settled(edge, digests[:MAX_SETTLED]) for edge, digests in uploads.items()]
        await asyncio.gather(*hints)

    async def _model_ready(self, edge: str, ready: ModelReady) -> None:
        with contextlib.suppress(HeliographError):
            await self._port.publish(MODEL_READY, ready, edge=edge, job=ready.job)

    async def _settled(self, edge: str, digests: list[str]) -> None:
        with contextlib.suppress(HeliographError):
            await self._port.publish(UPLOAD_SETTLED, UploadSettled(digests=digests), edge=edge)
