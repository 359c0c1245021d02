"""The counts of joint inference workers, over restarts of the workers and of the coordinator.

The stream keeps each worker's newest message; a key-value bucket keeps the counts of its earlier incarnations. The
bucket is written when a worker has restarted, and every half a minute, since a worker may restart while nobody leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from pydantic import ValidationError

from heliograph.bus.contract.payloads import InferenceStats
from heliograph.bus.contract.resources import JointInferenceService
from heliograph.bus.contract.topics import INFERENCE_STATS
from heliograph.bus.port import Received
from heliograph.bus.transport import KeyValue, KeyValueEntry
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.inference.totals import Totals, WorkerCounts, add_up, record
from heliograph.core.errors import Refused
from heliograph.core.tasks import wait_for

MAX_WORKERS = 256
"""Workers of one service on one edge whose counts are kept, former ones too."""
SAVE_EVERY = 30.0
"""Seconds until new counts are written to the bucket."""
Key = tuple[str, str, str]
"""Service uid, edge, worker."""


class Statistics:
    """The counts of every worker.

    Args:
        kept: the bucket of counts, keyed ``<service uid>.<edge>.<worker>``.
    """

    def __init__(self, context: ControllerContext, kept: KeyValue) -> None:
        self._context = context
        self._world = context.port.world
        self._kept = kept
        self._counts: dict[str, dict[tuple[str, str], WorkerCounts]] = {}
        self._due: dict[Key, float] = {}
        self._changed_services: dict[str, None] = {}
        self._wake = asyncio.Event()
        self.counts_read = asyncio.Event()
        """Set once the newest message of each worker has been read."""

    async def load(self) -> None:
        """Read the stored counts; delete those of deleted services."""
        present = {each.metadata.uid for each in self._context.store.all(JointInferenceService)}
        for entry in await self._kept.entries():
            with self._context.failures.contain(f"counts {entry.key}"):
                await self._load(entry, present)

    async def _load(self, entry: KeyValueEntry, present: Collection[str]) -> None:
        uid, _, place = entry.key.partition(".")
        edge, _, worker = place.partition(".")
        if uid not in present:
            await self._kept.delete(entry.key)
            return
        try:
            counts = WorkerCounts.from_json(entry.value)
        except ValidationError as error:
            self._context.warn(f"counts {entry.key} are unreadable ({error.error_count()} errors), start at zero")
            return
        self._counts.setdefault(uid, {})[edge, worker] = counts
        self._changed_services[uid] = None

    async def follow(self) -> None:
        """Record every worker's newest message, then each that comes, until cancelled."""
        bus = self._context.port.bus
        newest = await bus.last_sequence(INFERENCE_STATS.stream_name)
        if not newest:
            self.counts_read.set()
        async with bus.consume(INFERENCE_STATS.filter(), start=1) as messages:
            async for message in messages:
                with self._context.failures.contain(message.topic):
                    self._record(self._context.port.read(INFERENCE_STATS, message))
                if message.sequence >= newest:
                    self.counts_read.set()

    async def wait(self) -> None:
        """Return when counts have changed, or are due to be written."""
        if self._due and not self._changed_services:
            await wait_for(self._wake, max(0.0, min(self._due.values()) - self._world.monotonic()))
        elif not self._changed_services:
            await self._wake.wait()

    def pop_changed_services(self) -> list[str]:
        """Return the uids of services whose counts have changed since the last call."""
        changed = list(self._changed_services)
        self._changed_services.clear()
        self._wake.clear()
        return changed

    def totals(self, uid: str, replicas: Collection[str]) -> Totals:
        """Return the totals of the service with that uid."""
        return add_up(self._counts.get(uid, {}), replicas)

    async def save(self) -> None:
        """Write the counts that are due to the bucket."""
        now = self._world.monotonic()
        for key in [key for key, due in self._due.items() if due <= now]:
            uid, edge, worker = key
            counts = self._counts.get(uid, {}).get((edge, worker))
            if counts is not None:
                await self._kept.put(".".join(key), counts.model_dump_json(exclude_defaults=True).encode())
            self._due.pop(key, None)

    async def forget(self, uid: str) -> None:
        """Delete a deleted service's counts."""
        self._counts.pop(uid, None)
        for entry in await self._kept.entries(f"{uid}."):
            await self._kept.delete(entry.key)

    def _record(self, received: Received[InferenceStats]) -> None:
        stats = received.payload
        in_payload = {"service": stats.service, "edge": stats.edge, "worker": stats.worker}
        for name, value in in_payload.items():
            if received.params[name] != value:
                raise Refused("invalid", topic=received.message.topic, field=name, expected=received.params[name],
                              got=value)  # fmt: skip
        service = self._context.store.get(JointInferenceService, stats.service)
        if service is None or service.metadata.uid != stats.service_uid:
            return  # the service was deleted
        uid, place = stats.service_uid, (stats.edge, stats.worker)
        workers = self._counts.setdefault(uid, {})
        known = workers.get(place)
        if known is None and sum(edge == stats.edge for edge, _ in workers) >= MAX_WORKERS:
            raise Refused("too-many", topic=received.message.topic, field="worker", expected=f"at most {MAX_WORKERS} "
                          "workers of one service on one edge", got=stats.worker)  # fmt: skip
        counts = record(known, stats)
        if counts is known:
            return
        workers[place] = counts
        self._changed_services[uid] = None
        self._wake.set()
        restarted = known is not None and stats.incarnation not in known.incarnations
        now = self._world.monotonic()
        key = (uid, *place)
        self._due[key] = now if restarted else self._due.get(key, now + SAVE_EVERY)
