"""Take what edges hand over into their buckets, so that it outlives them: they offer, and this asks for the bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from heliograph.bus.blob_sources import Uploads
from heliograph.bus.contract.buckets import UPLOADS_MAX
from heliograph.bus.contract.payloads import UploadOffer, UploadSettled
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import UPLOAD_OFFER, UPLOAD_SETTLED
from heliograph.bus.port import Port
from heliograph.bus.weights_transfer import fetch_weights
from heliograph.core.errors import NotHeld, Refused
from heliograph.core.failures import Failures
from heliograph.core.own_directory import OwnDirectory
from heliograph.core.tasks import Background

AT_ONCE = 32
"""Uploads that are taken at the same time, at most; an edge offers again what was not taken."""


class UploadIntake:
    """Takes one upload of an edge after the other.

    Args:
        knows: returns whether an edge of that name exists.
    """

    def __init__(
        self, port: Port, knows: Callable[[str], bool], background: Background, failures: Failures
    ) -> None:
        self._port = port
        self._uploads = Uploads(port)
        self._knows = knows
        self._background = background
        self._failures = failures
        self._taking: set[str] = set()
        """Edges of which an upload is on its way."""
        self._directory: OwnDirectory | None = None

    async def run(self) -> None:
        """Take uploads until cancelled."""
        async with self._port.subscribe(UPLOAD_OFFER, self._refused) as received:
            async for each in received:
                edge = each.params["edge"]
                if self._knows(edge) and edge not in self._taking and len(self._taking) < AT_ONCE:
                    self._taking.add(edge)
                    self._background.spawn(self._take(edge, each.payload))

    async def _take(self, edge: str, offer: UploadOffer) -> None:
        try:
            reason = await self._reason_against(edge, offer)
            settled = UploadSettled(digests=[offer.digest], reason=reason)
            await self._port.publish(UPLOAD_SETTLED, settled, edge=edge)
        except Exception as error:  # the edge offers it again
            self._failures.add(f"upload {offer.digest[:12]} of edge {edge}", error)
        finally:
            self._taking.discard(edge)

    async def _reason_against(self, edge: str, offer: UploadOffer) -> str:
        """Bring an upload into its edge's bucket, and return an empty text; or the reason why it never lies there."""
        bucket = await self._port.bus.blobs(upload_bucket(edge))
        if await bucket.has(offer.digest):
            return ""
        if offer.size > UPLOADS_MAX:
            return f"at most {UPLOADS_MAX} bytes are taken of an edge"
        ref = WeightsRef(digest=offer.digest, size=offer.size)
        place = self._place / edge
        for other in place.iterdir() if place.is_dir() else ():
            if not other.name.startswith(offer.digest):  # the beginning of one that the edge offers no longer
                other.unlink()
        try:
            file = await fetch_weights(self._uploads.on_edge(edge), ref, place / offer.digest, self._port.world)
        except Refused as error:
            return str(error)
        except NotHeld:
            return f"neither edge {edge} nor its bucket has it"
        await bucket.put(file, ref)
        await self._port.world.in_thread(shutil.rmtree, place, True)
        return ""

    @property
    def _place(self) -> Path:
        if self._directory is None:
            self._directory = OwnDirectory("heliograph-uploads-", self._port.world.now())
        return self._directory.path

    def _refused(self, error: Refused) -> None:
        self._failures.add(error.topic, error)
