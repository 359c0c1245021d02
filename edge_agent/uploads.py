"""Upload an update's weights, which its worker has staged, before the event that names them goes to the cloud."""

from __future__ import annotations

import contextlib
from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.topics import MODEL_UPDATE
from heliograph.bus.transport import Bus
from heliograph.bus.weights_transfer import store_weights
from heliograph.core.errors import Refused
from heliograph.core.names import is_label
from heliograph.core.world import World
from heliograph.edge_agent.journal import KeptEvent
from heliograph.edge_agent.launcher import WorkerFiles


class Uploads:
    """Uploads staged weights into the edge's own bucket.

    Args:
        cloud: connection to the cloud.
    """

    def __init__(self, files: WorkerFiles, cloud: Bus, edge: str, world: World) -> None:
        self._files = files
        self._cloud = cloud
        self._world = world
        self._bucket = upload_bucket(edge)

    @staticmethod
    def may_name_weights(kept: KeptEvent) -> bool:
        """Return whether ``upload`` must be called for an event before it is forwarded."""
        return MODEL_UPDATE.match(kept.topic) is not None

    async def upload(self, kept: KeptEvent) -> None:
        """Upload the weights that an update names, unless they travel inside it or are in the cloud already.

        Raise Refused where the event is no update, names another bucket, or its weights are neither here nor there or
        are no safetensors file of that digest; raise Unreachable where the link is down.
        """
        if not self.may_name_weights(kept):
            return
        event = decode(kept.body, kept.topic)
        if _travels_inside(event.data):
            return
        ref = MODEL_UPDATE.validate(event.data, kept.topic).weights
        if ref.bucket != self._bucket:
            raise Refused("invalid", topic=kept.topic, field="weights.bucket", expected=self._bucket, got=ref.bucket)
        store = await self._cloud.blobs(self._bucket)
        worker = event.source.split("/")[1]
        file = await self._files.staged(worker, ref.digest)
        if file is not None:
            await store_weights(self._cloud, file, ref, self._bucket, self._world, hashed=False)
            await self._files.discard(worker, ref.digest)
        elif not await store.has(ref.digest):
            raise Refused("missing", topic=kept.topic, field="weights.digest",
                          expected=f"weights that worker {worker} has staged on this node", got=ref.digest)  # fmt: skip


    async def drop(self, kept: KeptEvent) -> None:
        """Delete the staged weights of an event that the cloud will never take."""
        if not self.may_name_weights(kept):
            return
        with contextlib.suppress(Refused):  # it names none
            event = decode(kept.body, kept.topic)
            if not _travels_inside(event.data):
                weights = MODEL_UPDATE.validate(event.data, kept.topic).weights
                worker = event.source.partition("/")[2].partition("/")[0]
                if is_label(worker):
                    await self._files.discard(worker, weights.digest)


def _travels_inside(update: Any) -> bool:
    """Return whether an update carries its weights inside. Most do; the aggregation worker validates them."""
    weights = update.get("weights") if isinstance(update, dict) else None
    return isinstance(weights, dict) and weights.get("inline") is not None
