"""Streams and buckets that edges write to have a bound, whoever has made them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.arriving_blob import CHUNK
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.topics import MODEL_UPDATE
from heliograph.bus.nats import bus as nats_bus
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.bus.meeting import blob
from tests.patience import HANGS

BUCKET = upload_bucket("edge-1")


@asynccontextmanager
async def _logged_in(cloud: Broker, user: str, inbox: str = "") -> AsyncIterator[NatsBus]:
    async with NatsBus(cloud.url(user), "heliograph", World(), user, inbox) as bus:
        await bus.link.wait_up(HANGS)
        yield bus


async def _config(bus: NatsBus, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = (await bus.connection.ask(f"$JS.API.STREAM.INFO.{stream}", {}))["config"]
    return found


async def test_the_stream_of_updates_drops_its_oldest_beyond_a_bound(
    broker: Callable[..., Awaitable[Broker]],
) -> None:
    cloud = await broker()
    async with _logged_in(cloud, "coordinator") as bus:
        await bus.prepare()
        found = await _config(bus, bus.subjects.stream_name(MODEL_UPDATE.stream_name))
        assert MODEL_UPDATE.stream is not None
        assert 0 < found["max_bytes"] == MODEL_UPDATE.stream.max_bytes


@pytest.mark.parametrize("bucket", [BUCKET, "models"])
async def test_a_bucket_takes_no_more_than_its_bound(
    broker: Callable[..., Awaitable[Broker]], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("UPLOADS_MAX", "OTHERS_MAX"):
        monkeypatch.setattr(nats_bus, limit, 3 * CHUNK)
    cloud = await broker()
    async with _logged_in(cloud, "coordinator") as bus:
        store = await bus.blobs(bucket)
        fits, large = blob(tmp_path / "fits", CHUNK), blob(tmp_path / "large", 3 * CHUNK)
        await store.put(tmp_path / "fits", fits)
        with pytest.raises(HeliographError, match="the object store refused a chunk: maximum messages exceeded"):
            await store.put(tmp_path / "large", large)
        assert await store.has(fits.digest)
        assert not await store.has(large.digest)


async def test_the_cloud_bounds_a_bucket_that_was_made_without_one(
    broker: Callable[..., Awaitable[Broker]],
) -> None:
    cloud = await broker()
    async with _logged_in(cloud, "coordinator") as bus:
        name = f"OBJ_{bus.subjects.stream_name(BUCKET)}"
        subjects = [f"$O.{bus.subjects.stream_name(BUCKET)}.C.>", f"$O.{bus.subjects.stream_name(BUCKET)}.M.>"]
        await bus.connection.ask(f"$JS.API.STREAM.CREATE.{name}", {"name": name, "subjects": subjects})
        assert (await _config(bus, name))["max_msgs"] == -1
        await bus.blobs(BUCKET)
        found = await _config(bus, name)
        assert found["max_msgs"] == nats_bus.UPLOADS_MAX // CHUNK
        assert found["max_msg_size"] == 1 << 20
