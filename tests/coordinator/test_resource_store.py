"""The resource store where the answer to a write is lost, and where a stored document cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.resources import Edge, Metadata, Model, Quarantine, Resource
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict, Refused, Unreachable
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
    found = store.get(Model, "m")
    assert found is not None
    assert (found.spec, found.metadata.resource_version) == (changed.spec, "2")
    assert shown == [found]
    await bus.close()


UNREADABLE = {
    "models.deep": b'{"kind":"Model","metadata":' + b"[" * 100_000,
    "models.levels": b'{"kind":"Model","metadata":{"name":"levels"},"spec":' + b'{"a":' * 300 + b"1" + b"}" * 301,
    "models.huge": b'{"kind":"Model","metadata":{"name":"huge","generation":1%s}}' % (b"0" * 30),
    "models.text": rb'{"kind":"Model","metadata":{"name":"text"},"spec":{"description":"\ud83d"}}',
    "models.bytes": b"\xff\xfe\xfd",
    "models.another": b'{"kind":"Model","metadata":{"name":"other"}}',
    "jobs.kind": b'{"kind":"Model","metadata":{"name":"kind"}}',
    "unknowns.x": b'{"kind":"Unknown","metadata":{"name":"x"}}',
    "Odd Key": b"{}",
    "models.empty": b"",
}


async def test_a_document_that_cannot_be_read_is_in_quarantine_and_the_others_are_read() -> None:
    world = World()
    bus = connect(f"memory://store-{world.new_id()}", world=world)
    await bus.open()
    bucket = await bus.kv("resources")
    for key, value in UNREADABLE.items():
        await bucket.put(key, value)
    await ResourceStore(bucket, world).create(Model(metadata=Metadata(name="fine")))
    store = ResourceStore(bucket, world)
    lines = await store.load()
    assert [each.name for each in store.all(Model)] == ["fine"]
    found = {each.spec.key: each for each in store.all(Quarantine)}
    assert found.keys() == UNREADABLE.keys()
    assert len(lines) == len(UNREADABLE)
    assert "64 bits" in found["models.huge"].spec.reason
    assert "surrogates" in found["models.text"].spec.reason
    for each in found.values():
        each.model_dump_json().encode()
    await bus.close()


async def test_a_name_in_quarantine_is_free_once_somebody_has_deleted_the_document() -> None:
    world = World()
    bus = connect(f"memory://store-{world.new_id()}", world=world)
    await bus.open()
    bucket = await bus.kv("resources")
    await bucket.put("models.m", b"{")
    store = ResourceStore(bucket, world)
    await store.load()
    with pytest.raises(Refused, match="heliograph delete quarantine/models-m"):
        await store.create(Model(metadata=Metadata(name="m")))
    await store.delete(store.all(Quarantine)[0])
    await store.create(Model(metadata=Metadata(name="m")))
    assert store.all(Quarantine) == []
    await bus.close()


async def test_a_document_that_only_coordinators_write_is_replaced() -> None:
    world = World()
    bus = connect(f"memory://store-{world.new_id()}", world=world)
    await bus.open()
    bucket, released = await bus.kv("resources"), list[Resource]()
    await bucket.put("edges.edge-1", b"{")
    store = ResourceStore(bucket, world, on_release=released.append)
    await store.load()
    await store.create(Edge(metadata=Metadata(name="edge-1")))
    assert store.all(Quarantine) == []
    assert [each.name for each in released] == ["edges-edge-1"]
    again = ResourceStore(bucket, world)
    assert await again.load() == []
    await bus.close()
