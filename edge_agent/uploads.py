"""Hold what a worker has staged for the cloud, before the event that names it goes there.

An update stays on this node's disk, and the aggregation worker asks for it. The coordinator takes the results of other
jobs at the moment of their event, perhaps when this node is away: the cloud has their bytes before the event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.payloads import UploadOffer
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import (
    CANDIDATE,
    MODEL_UPDATE,
    PAIR_RESULT,
    UPLOAD_OFFER,
    UPLOAD_SETTLED,
    Topic,
)
from heliograph.bus.contract.weights_header import check_file
from heliograph.bus.port import Port
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.failures import Failures
from heliograph.core.names import is_label
from heliograph.core.world import World
from heliograph.edge_agent.held_uploads import HeldUploads
from heliograph.edge_agent.journal import KeptEvent
from heliograph.edge_agent.launcher import WorkerFiles

_NAMING: Mapping[Topic[Any], tuple[str, ...]] = {
    MODEL_UPDATE: ("weights",), CANDIDATE: ("weights", "memory"), PAIR_RESULT: ("weights",),
}  # fmt: skip
"""The topics whose events name weights, with the fields that do."""
TAKEN_WITHIN = 5.0
"""Seconds after which weights that the cloud has not taken are offered again."""


class Uploads:
    """Holds staged weights for the cloud, or hands them over.

    Args:
        files: the files that workers have staged.
        held: the files of this node that the cloud may ask for.
        cloud: connection to the cloud.
    """

    def __init__(
        self, files: WorkerFiles, held: HeldUploads, cloud: Port, edge: str, world: World, failures: Failures
    ) -> None:
        self._files = files
        self._held = held
        self._cloud = cloud
        self._edge = edge
        self._world = world
        self._failures = failures
        self._bucket = upload_bucket(edge)
        self._awaited: dict[str, asyncio.Future[str]] = {}
        """By digest, the reason why the cloud does not take what it was offered; empty where it has it."""

    @staticmethod
    def may_name_weights(kept: KeptEvent) -> bool:
        """Return whether ``upload`` must be called for an event before it is forwarded."""
        return _declared(kept.topic) is not None

    async def run(self) -> None:
        """Let go of what the cloud says that it needs no longer, until cancelled."""
        async with self._cloud.subscribe(UPLOAD_SETTLED, self._refused, edge=self._edge) as received:
            async for each in received:
                for digest in each.payload.digests:
                    if (awaited := self._awaited.get(digest)) is not None and not awaited.done():
                        awaited.set_result(each.payload.reason)
                await self._held.settle(each.payload.digests)

    async def upload(self, kept: KeptEvent) -> None:
        """Hold the weights that an event names, unless they travel inside it; those of no update go to the cloud now.

        Raise Refused where the event names another bucket, or its weights are neither here nor there or
        are no safetensors file of that digest; raise Unreachable where the cloud has to take them and cannot.
        """
        if not self.may_name_weights(kept):
            return
        event = decode(kept.body, kept.topic)
        worker = event.source.split("/")[1]
        for field, ref, job_uid in _named(event, kept.topic):
            if ref.bucket != self._bucket:
                raise Refused("invalid", topic=kept.topic, field=f"{field}.bucket", expected=self._bucket,
                              got=ref.bucket)  # fmt: skip
            is_update = MODEL_UPDATE.match(kept.topic) is not None
            here = await self._hold(worker, ref, job_uid, hashed=is_update)
            reason = "" if here else "no such file is staged"
            if not is_update:
                reason = await self._hand_over(ref)
            if reason:
                raise Refused("missing", topic=kept.topic, field=f"{field}.digest", got=f"{ref.digest}: {reason}",
                              expected=f"weights that worker {worker} has staged on this node")  # fmt: skip

    async def drop(self, kept: KeptEvent) -> None:
        """Delete the staged weights of an event that the cloud will never take."""
        if not self.may_name_weights(kept):
            return
        with contextlib.suppress(Refused):  # it names none
            event = decode(kept.body, kept.topic)
            worker = event.source.partition("/")[2].partition("/")[0]
            for _, ref, _ in _named(event, kept.topic):
                await self._held.settle([ref.digest])
                if is_label(worker):
                    await self._files.discard(worker, ref.digest)

    async def _hold(self, worker: str, ref: WeightsRef, job_uid: str, *, hashed: bool) -> bool:
        """Return whether this node holds the weights now.

        Args:
            hashed: whether whoever fetches them refuses other bytes than those of the digest; otherwise they are
                compared here, since a node's events wait until the cloud has taken them.
        """
        if (file := await self._files.staged(worker, ref.digest)) is not None:
            await self._world.in_thread(check_file, file, ref, not hashed)
            await self._held.hold(ref.digest, job_uid, file)
            await self._files.discard(worker, ref.digest)
        return self._held.find(ref.digest) is not None

    async def _hand_over(self, ref: WeightsRef) -> str:
        """Offer weights to the cloud. Return an empty text once it has them, or the reason why it will never.

        Raise Unreachable where it has not taken them yet: it goes on when they are offered again.
        """
        settled = self._awaited[ref.digest] = asyncio.get_running_loop().create_future()
        try:
            await self._cloud.publish(UPLOAD_OFFER, UploadOffer(digest=ref.digest, size=ref.size), edge=self._edge)
            async with asyncio.timeout(TAKEN_WITHIN):
                reason: str = await settled
                return reason
        except TimeoutError:
            raise Unreachable(f"the cloud has not taken weights {ref.digest[:12]} yet") from None
        finally:
            del self._awaited[ref.digest]

    def _refused(self, error: Refused) -> None:
        self._failures.add(error.topic, error)


def _named(event: Event, topic: str) -> list[tuple[str, WeightsRef, str]]:
    """Return the references to weights outside an event, with their fields and the job's uid. Raise Refused for a
    malformed event that may have one."""
    if (declared := _declared(topic)) is None:
        return []
    fields = _NAMING[declared]
    if all(_travels_inside(event.data, field) for field in fields):
        return []
    payload = declared.validate(event.data, topic)
    found = [(field, getattr(payload, field), payload.job_uid) for field in fields]
    outside = [each for each in found if each[1] is not None and each[1].inline is None]
    if declared is CANDIDATE:  # what names no bucket stays on the node, whose own loop has it
        return [each for each in outside if each[1].bucket is not None]
    return outside


def _declared(topic: str) -> Topic[Any] | None:
    """Return the topic whose events name weights; None where an address is of none."""
    return next((each for each in _NAMING if each.match(topic) is not None), None)


def _travels_inside(data: Any, field: str) -> bool:
    """Return whether an event carries these weights inside. Most do; who takes the event validates them."""
    weights = data.get(field) if isinstance(data, dict) else None
    return isinstance(weights, dict) and weights.get("inline") is not None
