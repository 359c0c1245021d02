"""What the workers of joint inference services have counted, over their restarts and the coordinator's.

The stream holds each worker's newest message; what its earlier incarnations counted is kept in a key-value bucket. That
is written when a worker has restarted and, as it may do so while nobody leads, every half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from pydantic import ValidationError

from heliograph.bus.contract.payloads import InferenceStats
from heliograph.bus.contract.resources import JointInferenceService
from heliograph.bus.contract.topics import INFERENCE_STATS
from heliograph.bus.port import Received
from heliograph.bus.transport import KeyValue
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.inference.totals import Numbers, WorkerCounts, add_up, take
from heliograph.core.errors import Refused
from heliograph.core.tasks import wait_for

SAVE_EVERY = 30.0
Key = tuple[str, str, str]
"""Service uid, edge, worker."""


class Statistics:
    """Every worker's counts.

    Args:
        kept: the bucket of what is to outlive the coordinator, keyed ``<service uid>.<edge>.<worker>``.
    """

    def __init__(self, context: ControllerContext, kept: KeyValue) -> None:
        self._context = context
        self._world = context.port.world
        self._kept = kept
        self._counts: dict[str, dict[tuple[str, str], WorkerCounts]] = {}
        self._due: dict[Key, float] = {}
        self._news: dict[str, None] = {}
        self._heard = asyncio.Event()
        self.known = asyncio.Event()
        """Set once the newest message of each worker has been read."""

    async def load(self) -> None:
        """Read what was kept; drop the counts of services that are gone."""
        present = {each.metadata.uid for each in self._context.store.all(JointInferenceService)}
        for entry in await self._kept.entries():
            uid, edge, worker = entry.key.split(".")
            if uid not in present:
                await self._kept.delete(entry.key)
                continue
            try:
                counts = WorkerCounts.from_json(entry.value)
            except ValidationError as error:
                self._context.warn(f"counts {entry.key} are unreadable ({error.error_count()} errors) and begin anew")
                continue
            self._counts.setdefault(uid, {})[edge, worker] = counts
            self._news[uid] = None

    async def follow(self) -> None:
        """Until cancelled: take every worker's newest message, then each that comes."""
        bus = self._context.port.bus
        newest = await bus.last_sequence(INFERENCE_STATS.stream_name)
        if not newest:
            self.known.set()
        async with bus.consume(INFERENCE_STATS.filter(), start=1) as messages:
            async for message in messages:
                try:
                    self._take(self._context.port.read(INFERENCE_STATS, message))
                except Refused as error:
                    self._context.warn(str(error))
                if message.sequence >= newest:
                    self.known.set()

    async def wait(self) -> None:
        """Return when there are news, or something is due to be written."""
        if self._due and not self._news:
            await wait_for(self._heard, max(0.0, min(self._due.values()) - self._world.monotonic()))
        elif not self._news:
            await self._heard.wait()

    def take_news(self) -> list[str]:
        """The uids of the services with news since the last call."""
        news = list(self._news)
        self._news.clear()
        self._heard.clear()
        return news

    def numbers(self, uid: str, replicas: Collection[str]) -> Numbers:
        """What the service of that uid was asked, up to now."""
        return add_up(self._counts.get(uid, {}), replicas)

    async def save(self) -> None:
        """Write what is due."""
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

    def _take(self, received: Received[InferenceStats]) -> None:
        stats = received.payload
        said = {"service": stats.service, "edge": stats.edge, "worker": stats.worker}
        for name, value in said.items():
            if received.params[name] != value:
                raise Refused("invalid", topic=received.message.topic, field=name, expected=received.params[name],
                              got=value)  # fmt: skip
        service = self._context.store.get(JointInferenceService, stats.service)
        if service is None or service.metadata.uid != stats.service_uid:
            return  # of a service that is no more
        uid, place = stats.service_uid, (stats.edge, stats.worker)
        workers = self._counts.setdefault(uid, {})
        known = workers.get(place)
        counts = take(known, stats)
        if counts is known:
            return
        workers[place] = counts
        self._news[uid] = None
        self._heard.set()
        restarted = known is not None and stats.incarnation not in known.incarnations
        now = self._world.monotonic()
        key = (uid, *place)
        self._due[key] = now if restarted else self._due.get(key, now + SAVE_EVERY)
