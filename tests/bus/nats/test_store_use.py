"""How full a store is: nats-server tells it, a full one is named as such, and the beginning of an upload is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.bus.arriving_blob import CHUNK
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import StoreUse
from heliograph.core.errors import StoreFull
from heliograph.core.world import World
from tests.bus.meeting import Meeting, blob, on_nats


async def _bound(bus: NatsBus, stream: str, messages: int) -> None:
    """Bound a stream, as its disk would."""
    config = await bus.connection.stream_config(stream)
    answer = await bus.connection.ask(f"$JS.API.STREAM.UPDATE.{stream}", {**(config or {}), "max_msgs": messages})
    assert "error" not in answer, answer


@on_nats
async def test_each_bucket_says_how_much_of_its_bound_is_taken(meeting: Meeting, tmp_path: Path) -> None:
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store, keys = await bus.blobs("models"), await bus.kv("things")
        await store.put(tmp_path / "source", blob(tmp_path / "source", 2 * CHUNK))
        await keys.put("one", b"1")
        found = {each.bucket: each for each in await bus.store_use() if each.bucket}
        assert (found["models"].used, found["models"].unit) == (3, "chunks")
        assert (found["things"].used, found["things"].most, found["things"].unit) == (1, 1_000_000, "keys")
        assert (await keys.keys(), await keys.keys("o"), await keys.keys("x")) == (["one"], ["one"], [])
        entry = await keys.get("one")
        assert entry is not None
        assert abs(entry.at - World().now()) < 60
        assert await bus.server_use() == []  # only a login of the system account knows it


@on_nats
async def test_a_full_store_is_named_as_such(meeting: Meeting, tmp_path: Path) -> None:
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        keys, store = await bus.kv("things"), await bus.blobs("models")
        await keys.put("one", b"1")
        await _bound(bus, "KV_things", 1)
        with pytest.raises(StoreFull, match="two was not stored: maximum messages exceeded; it is stored once there"):
            await keys.put("two", b"2")
        assert StoreUse("bucket things", 1, 1, "keys", "things") in await bus.store_use()
        ref = blob(tmp_path / "source", 3 * CHUNK)
        await _bound(bus, "OBJ_models", 2)
        with pytest.raises(StoreFull, match="the object store refused a chunk: maximum messages exceeded"):
            await store.put(tmp_path / "source", ref)
        (beginning,) = await store.beginnings()
        assert (beginning.digest, beginning.size, beginning.whole) == (ref.digest, 2 * CHUNK, False)
        assert abs(beginning.at - World().now()) < 60
        await _bound(bus, "OBJ_models", 100)
        await store.put(tmp_path / "source", ref)
        assert not await store.discard(beginning)  # its upload has gone on
        assert (await store.fetch(ref, tmp_path / "target")).read_bytes() == (tmp_path / "source").read_bytes()


@on_nats
async def test_the_beginning_of_a_cut_upload_is_deleted(meeting: Meeting, tmp_path: Path) -> None:
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        ref = blob(tmp_path / "source", 3 * CHUNK)
        await _bound(bus, "OBJ_models", 2)
        with pytest.raises(StoreFull):
            await store.put(tmp_path / "source", ref)
        (beginning,) = await store.beginnings()
        assert await store.discard(beginning)
        assert await store.beginnings() == []
        await _bound(bus, "OBJ_models", 100)
        await store.put(tmp_path / "source", ref)
        assert await store.digests() == [ref.digest]
