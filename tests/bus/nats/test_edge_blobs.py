"""Blobs between an edge and the cloud on a real broker: cut, damaged, forged and asked for by those who may not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.arriving_blob import CHUNK, PLACE, WINDOW
from heliograph.bus.blob_sources import UPLOAD_CHUNK_BYTES, CloudBlobs, Uploads
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.permissions import inbox_of, upload_bucket
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.topics import BLOB_ASK, REPORT, UPLOAD_ASK, UPLOAD_CHUNK
from heliograph.bus.nats import bulk
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.bus.traces.blob_collector import BlobCollector
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recording import Recorder
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, NobodyAnswers, NotHeld, Refused, Unreachable
from heliograph.core.world import World
from heliograph.local.nats_server import Broker, User
from tests.bus.meeting import PATIENCE, following
from tests.bus.roles import Start, agent, answering, connected, coordinator, violations

EDGE = "edge-1"
PARTS = 3 * WINDOW


class Taken:
    """The chunks that arrived; ``at_chunk`` is called with each number, in the transfer's thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self.at_chunk: Callable[[int], object] = lambda number: None
        read_into = BulkLink.read_into

        def counted(link: BulkLink, target: memoryview) -> None:
            read_into(link, target)
            if len(target) in (CHUNK, UPLOAD_CHUNK_BYTES):
                self.number += 1
                self.at_chunk(self.number)

        monkeypatch.setattr(BulkLink, "read_into", counted)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    monkeypatch.setattr(bulk, "TIMEOUT", 1.0)
    return Taken(monkeypatch)


def blob(path: Path, size: int) -> WeightsRef:
    content = random.Random(size).randbytes(size)
    path.write_bytes(content)
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=size)


def _upload(path: Path) -> WeightsRef:
    return blob(path, PARTS * UPLOAD_CHUNK_BYTES + 7)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_transfer_goes_on_after_the_broker_was_killed(
    broker: Start, tmp_path: Path, taken: Taken, direction: str
) -> None:
    server, source, target = await broker(), tmp_path / "source", tmp_path / "target"
    size = UPLOAD_CHUNK_BYTES if direction == "up" else CHUNK
    ref = blob(source, PARTS * size + 7)
    assert server.process is not None
    pid = server.process.pid
    async with (
        coordinator(server) as cloud,
        agent(server, EDGE) as edge,
        answering(cloud, edge, {ref.digest: source}) as (to_edge, to_cloud),
    ):
        await (await cloud.blobs("models")).put(source, ref)
        fetching = to_cloud if direction == "up" else to_edge
        taken.number, at = 0, WINDOW + 3
        taken.at_chunk = lambda number: os.kill(pid, signal.SIGKILL) if number == at else None
        with pytest.raises(Unreachable):
            await fetching.fetch(ref, target)
        first = taken.number
        assert at <= first
        await server.kill()
        await server.start()
        taken.at_chunk = lambda number: None
        await _until_fetched(fetching, ref, target)
        assert target.read_bytes() == source.read_bytes()
        assert taken.number <= PARTS + 2, "what had come was not sent again"


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_transfer_goes_on_with_the_next_holder(
    broker: Start, tmp_path: Path, taken: Taken, direction: str
) -> None:
    """The agent, or the leading coordinator, ends in the middle; its successor knows nothing of the transfer."""
    server, source, target = await broker(), tmp_path / "source", tmp_path / "target"
    ref = _upload(source)
    async with coordinator(server) as cloud, agent(server, EDGE) as edge:
        await (await cloud.blobs("models")).put(source, ref)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        async with answering(cloud, edge, {ref.digest: source}) as (to_edge, to_cloud):
            taken.number = 0
            taken.at_chunk = lambda number: loop.call_soon_threadsafe(ended.set) if number == 2 else time.sleep(0.05)
            fetching = to_cloud if direction == "up" else to_edge
            running = asyncio.ensure_future(fetching.fetch(ref, target))
            await asyncio.wait_for(ended.wait(), PATIENCE)
        with pytest.raises(Unreachable):
            await running
        before = taken.number
        assert 2 <= before < PARTS
        taken.at_chunk = lambda number: None
        with pytest.raises(NobodyAnswers):
            await fetching.fetch(ref, target)
        async with answering(cloud, edge, {ref.digest: source}):
            await fetching.fetch(ref, target)
        assert target.read_bytes() == source.read_bytes()
        assert taken.number <= ref.size // (UPLOAD_CHUNK_BYTES if direction == "up" else CHUNK) + 1


async def test_what_nobody_holds_is_said_at_once(broker: Start, tmp_path: Path) -> None:
    server, nothing = await broker(), WeightsRef(digest="0" * 64, size=1 << 30)
    async with coordinator(server) as cloud, agent(server, EDGE) as edge:
        sources = CloudBlobs(Port(edge, World(), f"{EDGE}/agent/1"), EDGE), Uploads(_port(cloud)).of(EDGE)
        began = time.monotonic()
        for source in sources:
            with pytest.raises(NobodyAnswers):
                await source.fetch(nothing, tmp_path / "nothing")
        async with answering(cloud, edge, {}) as answered:
            for source in answered:
                with pytest.raises(NotHeld):
                    await source.fetch(nothing, tmp_path / "nothing")
        assert time.monotonic() - began < bulk.TIMEOUT


async def test_an_edge_gets_no_blob_that_its_document_does_not_name(
    broker: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, mine, theirs = await broker(), tmp_path / "mine", tmp_path / "theirs"
    own, other = blob(mine, 3 * CHUNK), blob(theirs, 2 * CHUNK)
    async with (
        coordinator(server) as cloud,
        agent(server, EDGE) as edge,
        answering(cloud, edge, {}, given={own.digest}) as (to_edge, _),
    ):
        for bucket in ("models", "rounds-of-others"):
            store = await cloud.blobs(bucket)
            await store.put(mine, own)
            await store.put(theirs, other)
        assert (await to_edge.fetch(own, tmp_path / "fetched")).read_bytes() == mine.read_bytes()
        for ref in (other, own.model_copy(update={"bucket": "rounds-of-others"})):
            with pytest.raises(Unreachable, match="desired document does not name it"):
                await to_edge.fetch(ref, tmp_path / "stolen")
        assert list(tmp_path.glob("stolen*")) == [tmp_path / "stolen.part"]
        assert (tmp_path / "stolen.part").read_bytes() == b""


async def test_the_upload_of_a_damaged_disk_is_not_taken(broker: Start, tmp_path: Path) -> None:
    server, source = await broker(), tmp_path / "source"
    ref = _upload(source)
    with source.open("r+b") as file:
        file.write(b"damaged")
    async with (
        coordinator(server) as cloud,
        agent(server, EDGE) as edge,
        answering(cloud, edge, {ref.digest: source}) as (_, to_cloud),
    ):
        with pytest.raises(Unreachable, match="damaged"):
            await to_cloud.fetch(ref, tmp_path / "target")
        assert list(tmp_path.glob("target*")) == []
        blob(source, ref.size)
        await to_cloud.fetch(ref, tmp_path / "target")


BAD_ASKS: dict[str, dict[str, Any]] = {
    "huge-count": {"count": 10**9}, "no-count": {"count": 0}, "negative": {"place": -1}, "far": {"place": 10**30},
    "path": {"id": "../../x"}, "subject": {"id": "a.b.>"}, "wildcard": {"id": "*"}, "empty": {"id": ""},
    "digest": {"digest": "../../etc/passwd"}, "bucket": {"bucket": "x" * 1000},
}  # fmt: skip


@pytest.mark.parametrize("topic", [BLOB_ASK, UPLOAD_ASK], ids=["of the cloud", "of an edge"])
async def test_a_forged_ask_brings_nothing_and_stops_nobody(broker: Start, tmp_path: Path, topic: Any) -> None:
    server, source = await broker(), tmp_path / "source"
    ref = blob(source, 2 * UPLOAD_CHUNK_BYTES)
    good = {"id": "t", "digest": ref.digest, "bucket": "models", "place": 0, "sequence": 0, "count": 1}
    async with (
        coordinator(server) as cloud,
        agent(server, EDGE) as edge,
        cloud.subscribe("edge/#", "request/#") as heard,
        answering(cloud, edge, {ref.digest: source}) as (to_edge, to_cloud),
    ):
        await (await cloud.blobs("models")).put(source, ref)
        asker = edge if topic is BLOB_ASK else cloud
        address = topic.at(edge=EDGE)
        for changes in BAD_ASKS.values():
            bad = {**_envelope(topic, address), "data": {**good, **changes}}
            await asker.publish(address, json.dumps(bad).encode())
        for body in (b"", b"\xff" * 100, b"{", b"[]" * 1000):
            await asker.publish(address, body)
        last = {**_envelope(topic, address), "data": {**good, "id": "last"}}
        await asker.publish(address, json.dumps(last).encode(), reply_to="reply/operator/1")
        while not (message := await following(heard)).topic.endswith("/last"):
            assert message.topic == address or "/x" not in message.topic
            assert PLACE not in message.headers
        assert len(message.body) in (UPLOAD_CHUNK_BYTES, min(ref.size, CHUNK))
        for source_of in (to_edge, to_cloud):
            target = tmp_path / "fetched" / type(source_of).__name__
            assert (await source_of.fetch(ref, target)).read_bytes() == source.read_bytes()


@asynccontextmanager
async def _rogue(edge: Bus, *messages: tuple[dict[str, str], bytes]) -> AsyncIterator[None]:
    """An edge that answers the first ask with these messages."""
    assert isinstance(edge, NatsBus)
    listening = asyncio.Event()

    async def answer() -> None:
        async with edge.subscribe(UPLOAD_ASK.at(edge=EDGE)) as asks:
            listening.set()
            async for ask in asks:
                received = Port(edge, World(), f"{EDGE}/agent/1").read(UPLOAD_ASK, ask)
                for headers, body in messages:
                    await edge.publish(UPLOAD_CHUNK.at(edge=EDGE, id=received.payload.id), body, headers=headers)

    running = asyncio.create_task(answer())
    await listening.wait()
    yield
    running.cancel()


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([({PLACE: "0"}, bytes(UPLOAD_CHUNK_BYTES + 1))], Refused),
        ([({PLACE: "0"}, bytes(7))], Refused),
        ([({PLACE: "0"}, b"")], Refused),
        ([({PLACE: "7"}, bytes(UPLOAD_CHUNK_BYTES))], Unreachable),
        ([({}, bytes(UPLOAD_CHUNK_BYTES))], Unreachable),
        ([({"Status": "204"}, b"")], Unreachable),
        ([({PLACE: "0"}, bytes(UPLOAD_CHUNK_BYTES))] * 2, Unreachable),
        ([], Unreachable),
    ],
    ids=["too long", "too short", "empty", "another place", "no place", "ends", "twice", "silence"],
)
async def test_a_rogue_edge_costs_the_cloud_one_attempt(
    broker: Start, tmp_path: Path, taken: Taken, messages: Any, error: type[HeliographError]
) -> None:
    server = await broker()
    ref = _upload(tmp_path / "source")
    async with coordinator(server) as cloud, agent(server, EDGE) as edge, _rogue(edge, *messages):
        with pytest.raises(error):
            await Uploads(_port(cloud)).of(EDGE).fetch(ref, tmp_path / "target")
        assert not (tmp_path / "target").exists()


def _port(bus: Bus) -> Port:
    return Port(bus, World(), "cloud/coordinator/1")


def _envelope(topic: Any, address: str) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "a/b/c", "type": topic.type, "subject": address}


async def _until_fetched(source: Any, ref: WeightsRef, target: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await source.fetch(ref, target)
                return
            except Unreachable as error:
                logging.getLogger("heliograph").debug("%s", error)
                await asyncio.sleep(0.05)


async def test_a_recorder_takes_an_update_from_its_edge_and_no_chunk_in_passing(broker: Start, tmp_path: Path) -> None:
    server, source = await broker(), tmp_path / "source"
    ref = blob(source, 3 * UPLOAD_CHUNK_BYTES).model_copy(update={"bucket": upload_bucket(EDGE)})
    async with (
        coordinator(server) as cloud,
        agent(server, EDGE) as edge,
        connected(server, "operator", inbox=inbox_of("operator")) as operator,
        answering(cloud, edge, {ref.digest: source}),
    ):
        assert isinstance(operator, NatsBus)
        with TraceWriter(tmp_path / "a.mcap") as writer:
            collector = BlobCollector(operator, writer, World())
            recorder = Recorder(operator, writer, World(), blobs=collector)
            running = asyncio.create_task(recorder.run())
            await recorder.ready.wait()
            report = {"weights": ref.model_dump(exclude_none=True)}
            await edge.publish(REPORT.at(edge=EDGE), json.dumps(report).encode())
            await collector.finish()
            recorder.stop()
            outcome = await running
        with TraceReader(tmp_path / "a.mcap") as reader:
            assert [data for _, data in reader.attachments()] == [source.read_bytes()]
            assert [each.topic for each in reader] == [REPORT.at(edge=EDGE)]
        assert outcome.complete and await cloud.existing_blobs(upload_bucket(EDGE)) is None
    assert violations(server) == []


async def test_a_connection_that_has_received_sends_whatever_is_left_of_the_transfer_before(broker: Start) -> None:
    server = await broker()
    async with coordinator(server) as cloud:

        def transfer() -> None:
            link = BulkLink(ConnectionUrl.parse(server.url("coordinator")), "heliograph.log.a.b")
            for left in (b"PONG\r\n", b"-ERR 'no error'\r\n", b"x" * (1 << 18)):
                link.post("heliograph.log.a.b", left)
            link.flush()
            link.post("heliograph.log.c.d", b"after")
            link.flush()
            link.close()

        async with cloud.subscribe("log/c/d") as heard:
            await asyncio.to_thread(transfer)
            assert (await following(heard)).body == b"after"


async def test_whoever_was_asked_and_is_gone_is_not_awaited_for_ever(tmp_path: Path) -> None:
    """The broker lives, and pings; a coordinator was killed between an ask and its answer."""
    users = (User("coordinator", "of-coordinator", "coordinator"),)
    server = Broker(tmp_path, "node", users, ping_interval="100ms")
    await server.start()
    try:
        link = BulkLink(ConnectionUrl.parse(server.url("coordinator")), "heliograph.log.a.b")
        with pytest.raises(Unreachable, match="whoever was asked does not answer"):
            await asyncio.wait_for(asyncio.to_thread(link.next), PATIENCE)
        link.close()
    finally:
        await server.kill()
