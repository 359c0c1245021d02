"""Upload weights that a worker has staged, before the event that names them goes to the cloud."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import CANDIDATE, MODEL_UPDATE, PAIR_RESULT, Topic
from heliograph.bus.transport import Bus
from heliograph.bus.weights_transfer import store_weights
from heliograph.core.errors import Refused
from heliograph.core.names import is_label
from heliograph.core.world import World
from heliograph.edge_agent.journal import KeptEvent
from heliograph.edge_agent.launcher import WorkerFiles

_NAMING: Mapping[Topic[Any], tuple[str, ...]] = {
    MODEL_UPDATE: ("weights",), CANDIDATE: ("weights", "memory"), PAIR_RESULT: ("weights",),
}  # fmt: skip
"""The topics whose events name weights, with the fields that do."""


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
        return _declared(kept.topic) is not None

    async def upload(self, kept: KeptEvent) -> None:
        """Upload the weights that an event names, unless they travel inside it or are in the cloud.

        Raise Refused where the event names another bucket, or its weights are neither here nor there or
        are no safetensors file of that digest; raise Unreachable where the link is down.
        """
        if not self.may_name_weights(kept):
            return
        event = decode(kept.body, kept.topic)
        worker = event.source.split("/")[1]
        for field, ref in _named(event, kept.topic):
            if ref.bucket != self._bucket:
                raise Refused("invalid", topic=kept.topic, field=f"{field}.bucket", expected=self._bucket,
                              got=ref.bucket)  # fmt: skip
            await self._upload(worker, ref, f"{field}.digest", kept.topic)

    async def drop(self, kept: KeptEvent) -> None:
        """Delete the staged weights of an event that the cloud will never take."""
        if not self.may_name_weights(kept):
            return
        with contextlib.suppress(Refused):  # it names none
            event = decode(kept.body, kept.topic)
            worker = event.source.partition("/")[2].partition("/")[0]
            for _, ref in _named(event, kept.topic):
                if is_label(worker):
                    await self._files.discard(worker, ref.digest)

    async def _upload(self, worker: str, ref: WeightsRef, field: str, topic: str) -> None:
        file = await self._files.staged(worker, ref.digest)
        if file is not None:
            await store_weights(self._cloud, file, ref, self._bucket, self._world, hashed=False)
            await self._files.discard(worker, ref.digest)
        elif not await (await self._cloud.blobs(self._bucket)).has(ref.digest):
            raise Refused("missing", topic=topic, field=field, got=ref.digest,
                          expected=f"weights that worker {worker} has staged on this node")  # fmt: skip


def _named(event: Event, topic: str) -> list[tuple[str, WeightsRef]]:
    """Return the references to weights outside an event, with their fields. Raise Refused for a malformed event that
    may have one."""
    if (declared := _declared(topic)) is None:
        return []
    fields = _NAMING[declared]
    if all(_travels_inside(event.data, field) for field in fields):
        return []
    payload = declared.validate(event.data, topic)
    found = [(field, getattr(payload, field)) for field in fields]
    outside = [(field, ref) for field, ref in found if ref is not None and ref.inline is None]
    if declared is CANDIDATE:  # what names no bucket stays on the node, whose own loop has it
        return [(field, ref) for field, ref in outside if ref.bucket is not None]
    return outside


def _declared(topic: str) -> Topic[Any] | None:
    """Return the topic whose events name weights; None where an address is of none."""
    return next((each for each in _NAMING if each.match(topic) is not None), None)


def _travels_inside(data: Any, field: str) -> bool:
    """Return whether an event carries these weights inside. Most do; who takes the event validates them."""
    weights = data.get(field) if isinstance(data, dict) else None
    return isinstance(weights, dict) and weights.get("inline") is not None
