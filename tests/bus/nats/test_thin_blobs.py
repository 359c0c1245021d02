"""Blobs over thin links: both ways whole, and no part of a chunk twice because of a cut."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliograph.bus.arriving_blob import CHUNK
from heliograph.bus.blob_sources import CloudBlobs
from heliograph.bus.blob_store import BlobSource
from heliograph.bus.connect import connect
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.transport import Bus
from heliograph.core.errors import Unreachable
from heliograph.core.world import World
from heliograph.local.nats_server import PING_INTERVAL
from heliograph.local.relay import Relay
from tests.bus.roles import Start, answering, coordinator
from tests.patience import HANGS

EDGE = "edge-1"


@asynccontextmanager
async def behind_a_thin_link(
    broker: Start, source: Path, ref: WeightsRef, rate: float, latency: float
) -> AsyncIterator[tuple[Relay, Bus, CloudBlobs, BlobSource]]:
    """Yield the link, the edge's bus, and where edge and cloud fetch from; the blob lies on both sides."""
    server = await broker(ping_interval=PING_INTERVAL)
    relay = Relay(server.host, server.port, World(), buffer=4096)
    await relay.start()
    url = server.url(f"agent-{EDGE}").replace(str(server.port), str(relay.port))
    try:
        async with coordinator(server) as cloud, connect(url, name=f"agent-{EDGE}", inbox=inbox_of(EDGE)) as edge:
            await (await cloud.blobs("models")).put(source, ref)
            await edge.link.wait_up(HANGS)
            async with answering(cloud, edge, {ref.digest: source}) as (to_edge, to_cloud):
                relay.bandwidth, relay.latency = rate, latency
                yield relay, edge, to_edge, to_cloud
    finally:
        await relay.stop()


def blob(path: Path, size: int) -> WeightsRef:
    content = random.Random(size).randbytes(size)
    path.write_bytes(content)
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=size)


async def fetched(source: BlobSource, ref: WeightsRef, target: Path) -> None:
    """Fetch, again after each error, as everybody does who fetches."""
    async with asyncio.timeout(HANGS):
        while True:
            try:
                await source.fetch(ref, target)
                return
            except Unreachable:
                await asyncio.sleep(0.05)


async def test_an_upload_whose_chunk_takes_longer_than_pings_may_comes_in_parts(broker: Start, tmp_path: Path) -> None:
    ref = blob(tmp_path / "source", 300_000)
    async with behind_a_thin_link(broker, tmp_path / "source", ref, 60_000.0, 0.1) as (relay, _, _, to_cloud):
        before = relay.bytes_up
        async with asyncio.timeout(HANGS):
            await to_cloud.fetch(ref, tmp_path / "target")  # at the first attempt
        sent = relay.bytes_up - before
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert sent < 1.2 * ref.size


async def test_a_download_whose_chunk_takes_longer_than_pings_may_comes_whole(broker: Start, tmp_path: Path) -> None:
    ref = blob(tmp_path / "source", CHUNK)
    async with behind_a_thin_link(broker, tmp_path / "source", ref, 200_000.0, 0.1) as (relay, _, to_edge, _):
        before = relay.bytes_down
        async with asyncio.timeout(HANGS):
            await to_edge.fetch(ref, tmp_path / "target")
        came = relay.bytes_down - before
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert came < 1.2 * ref.size


@pytest.mark.parametrize("at", [0.3, 0.7])
async def test_an_upload_that_was_cut_goes_on_within_its_chunk(broker: Start, tmp_path: Path, at: float) -> None:
    ref = blob(tmp_path / "source", 300_000)
    async with behind_a_thin_link(broker, tmp_path / "source", ref, 100_000.0, 0.02) as (relay, edge, _, to_cloud):
        before = relay.bytes_up
        fetching = asyncio.create_task(fetched(to_cloud, ref, tmp_path / "target"))
        while relay.bytes_up - before < at * ref.size:
            await asyncio.sleep(0.01)
        relay.cut("reset")
        await edge.link.wait_down()
        relay.restore()
        await fetching
        sent = relay.bytes_up - before
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert sent < 1.6 * ref.size  # of the chunk's beginning only what was under way is sent again
