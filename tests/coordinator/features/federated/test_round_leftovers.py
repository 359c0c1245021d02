"""Blobs of closed rounds are freed in the buckets, except those still in use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import close_record
from heliograph.bus.contract.payloads import Aggregation, UncountedUpdate
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.transport import Bus, KeyValue
from heliograph.coordinator.features.federated.round_leftovers import RoundLeftovers
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

UID = "u"


@dataclass
class Cloud:
    """Buckets in memory."""

    bus: Bus
    rounds: KeyValue
    directory: Path
    in_use: set[str] = field(default_factory=set)

    async def blob(self, name: str, bucket: str = "models") -> WeightsRef:
        digest = hashlib.sha256(name.encode()).hexdigest()
        (self.directory / digest).write_text(name)
        ref = WeightsRef(digest=digest, size=len(name))
        return await (await self.bus.blobs(bucket)).put(self.directory / digest, ref)

    async def closed(self, round: int, **fields: Any) -> Aggregation:
        """Return the record of a round, which lies in its bucket."""
        model = await self.blob(f"model {round}")
        known = {"job": "job", "job_uid": UID, "round": round, "model": model, "reason": "complete"}
        record = Aggregation.model_validate(known | {"counted": {"edge-1": "0" * 64}} | fields)
        await self.rounds.put(close_record.key_of(UID, round), close_record.dump(record))
        return record

    @asynccontextmanager
    async def leftovers(self) -> AsyncIterator[RoundLeftovers]:
        found = RoundLeftovers(self.bus, self.rounds, lambda: self.in_use, Failures(print))
        running = asyncio.create_task(found.run())
        yield found
        await cancel_and_wait(running)

    async def models(self) -> set[str]:
        return set(await (await self.bus.blobs("models")).digests())


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    world = World()
    async with connect(f"memory://leftovers-{world.new_id()}", world=world) as bus:
        yield Cloud(bus, await bus.kv("rounds"), tmp_path)


def _model(record: Aggregation) -> str:
    assert record.model is not None
    return record.model.digest


async def test_a_rounds_uploads_go_and_the_newest_models_stay(cloud: Cloud) -> None:
    records = []
    async with cloud.leftovers() as leftovers:
        for round in range(4):
            counted = await cloud.blob(f"{round}", upload_bucket("edge-1"))
            late = await cloud.blob(f"late {round}", upload_bucket("edge-2"))
            note = UncountedUpdate(edge="edge-2", round=round, reason="late", digest=late.digest)
            records.append(await cloud.closed(round, counted={"edge-1": counted.digest}, late=[note]))
            leftovers.free_soon(records[-1])
        await leftovers.wait_until_freed()
    for edge in ("edge-1", "edge-2"):
        assert await (await cloud.bus.blobs(upload_bucket(edge))).digests() == []
    assert await cloud.models() == {_model(each) for each in records[2:]}


async def test_another_coordinator_frees_what_the_rounds_before_its_start_have_left(cloud: Cloud) -> None:
    records = [await cloud.closed(round) for round in range(3)]
    for _ in range(2):  # freeing twice does no harm
        async with cloud.leftovers() as leftovers:
            leftovers.free_soon(records[2])
            await leftovers.wait_until_freed()
    assert await cloud.models() == {_model(each) for each in records[1:]}


async def test_a_model_that_a_version_names_stays_whatever_a_record_says(cloud: Cloud) -> None:
    records = [await cloud.closed(round) for round in range(3)]
    cloud.in_use = {_model(records[0])}
    async with cloud.leftovers() as leftovers:
        for each in records:
            leftovers.free_soon(each)
        await leftovers.wait_until_freed()
    assert await cloud.models() == {_model(each) for each in records}


async def test_a_model_that_was_the_best_one_goes_once_nothing_names_it(cloud: Cloud) -> None:
    records = [await cloud.closed(round) for round in range(5)]
    inline = await cloud.blob("it travelled inline")
    cloud.in_use = {_model(records[0])}
    async with cloud.leftovers() as leftovers:
        for each in records[:3]:
            leftovers.free_soon(each)
        await leftovers.wait_until_freed()
        assert _model(records[0]) in await cloud.models()
        cloud.in_use = {_model(records[3])}
        leftovers.free_later(UID, inline.digest)
        leftovers.free_later(UID, _model(records[2]))  # the round before the newest: edges may be fetching it
        leftovers.free_soon(records[3])
        await leftovers.wait_until_freed()
        assert await cloud.models() == {_model(each) for each in records[2:]}
        leftovers.free_later(UID, _model(records[0]))
        assert leftovers.forget(UID) == {_model(records[0])}
