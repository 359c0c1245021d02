"""Blobs: content-addressed files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heliograph.bus.arriving_blob import CHUNK
from heliograph.bus.blob_store import BlobStore
from heliograph.bus.contract.resources import WeightsRef
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.world import World
from tests.bus.meeting import (
    NATS,
    Meeting,
    blob,
    on_nats,
    where_events_are_stored,
)


@where_events_are_stored
@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 5], ids=["empty", "byte", "chunk", "chunks"])
async def test_a_blob_comes_back_as_it_was(meeting: Meeting, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    ref = blob(source, size)
    async with meeting.clients(2) as (one, other):
        mine, theirs = await one.blobs("models"), await other.blobs("models")
        assert not await theirs.has(ref.digest)
        with pytest.raises(Unreachable):
            await theirs.fetch(ref, tmp_path / "none")
        stored = await mine.put(source, ref)
        assert stored == ref.model_copy(update={"bucket": "models"})
        assert await theirs.has(ref.digest)
        assert await theirs.digests() == [ref.digest]
        target = tmp_path / "deep" / "er" / "target"
        assert await theirs.fetch(stored, target) == target
        assert target.read_bytes() == source.read_bytes()
        assert [each.name for each in target.parent.iterdir()] == ["target"]
        assert not await (await other.blobs("others")).has(ref.digest)
        await mine.delete(ref.digest)
        assert not await theirs.has(ref.digest)
        assert await theirs.digests() == []


@where_events_are_stored
async def test_a_damaged_blob_is_refused(meeting: Meeting, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    wrong = WeightsRef(digest="0" * 64, size=blob(source, CHUNK + 3).size)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(source, wrong)
        for _ in range(2):
            with pytest.raises(Unreachable, match="damaged"):
                await store.fetch(wrong, target)
            assert list(tmp_path.glob("target*")) == []


@pytest.mark.parametrize("kind", [NATS])
async def test_a_file_that_differs_from_its_reference_is_refused(meeting: Meeting, tmp_path: Path) -> None:
    ref = blob(tmp_path / "source", 100)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        with pytest.raises(Refused) as refused:
            await store.put(tmp_path / "source", ref.model_copy(update={"size": 99}))
        assert "99 bytes" in refused.value.expected
        assert not await store.has(ref.digest)


@on_nats
async def test_a_bucket_is_made_once_and_reached_by_all(meeting: Meeting, tmp_path: Path) -> None:
    async with meeting.clients(2) as buses:
        stores: list[BlobStore] = await asyncio.gather(*(bus.blobs("models") for bus in (*buses, *buses)))
        assert {store.bucket for store in stores} == {"models"}
        with pytest.raises(HeliographError):
            await buses[0].blobs("not a name")


@on_nats
async def test_an_upload_makes_a_deleted_bucket_anew(meeting: Meeting, tmp_path: Path) -> None:
    ref = blob(tmp_path / "source", 100)
    async with meeting.clients(2) as (edge, cloud):
        store = await edge.blobs("uploads")
        await store.put(tmp_path / "source", ref)
        await cloud.delete_blobs("uploads")
        await cloud.delete_blobs("uploads")  # there is none any more
        await store.put(tmp_path / "source", ref)
        assert await (await cloud.blobs("uploads")).has(ref.digest)


@where_events_are_stored
async def test_a_blob_that_is_stored_again_is_young_and_not_discarded(meeting: Meeting, tmp_path: Path) -> None:
    source = tmp_path / "source"
    ref = blob(source, CHUNK + 5)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        assert await store.about(ref.digest) is None
        await store.put(source, ref)
        seen = await store.about(ref.digest)
        assert seen is not None
        assert (seen.digest, seen.size, seen.whole) == (ref.digest, ref.size, True)
        assert abs(seen.at - World().now()) < 60
        await store.put(source, ref)
        again = await store.about(ref.digest)
        assert again is not None
        assert again.at >= seen.at
        assert again.revision != seen.revision
        assert not await store.discard(seen)
        assert await store.has(ref.digest)
        assert (await store.fetch(ref, tmp_path / "target")).read_bytes() == source.read_bytes()
        assert await store.discard(again)
        assert (await store.digests(), await store.beginnings(), await store.about(ref.digest)) == ([], [], None)
