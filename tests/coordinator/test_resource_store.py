"""The resource store where the answer to a write is lost."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.resources import Metadata, Model, Resource
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict, Unreachable
from heliograph.core.world import World


class Forgetful:
    """A bucket that stores every value, but does not answer while ``silent``."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket
        self.silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        stored: int = await self._bucket.put(key, value, revision)
        if self.silent:
            raise Unreachable("no answer in time")
        return stored


async def test_a_write_whose_answer_was_lost_is_shown_when_a_conflict_finds_it() -> None:
    world = World()
    bus = connect(f"memory://store-{world.new_id()}", world=world)
    await bus.open()
    bucket, shown = Forgetful(await bus.kv("resources")), list[Resource]()
    store = ResourceStore(bucket, world, shown.append)
    model = await store.create(Model(metadata=Metadata(name="m")))
    changed = model.model_copy(update={"spec": model.spec.model_copy(update={"description": "new"})})
    bucket.silent = True
    with pytest.raises(Unreachable):
        await store.put(changed)
    bucket.silent = False
    assert store.get(Model, "m") == model  # the store does not know of the write yet
    with pytest.raises(Conflict):
        await store.put(changed)
    assert store.get(Model, "m") == changed
    assert shown == [changed]
    await bus.close()
