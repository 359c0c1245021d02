"""Transfers of blobs on NATS continue after a cut, and tolerate stale chunks after a broker's restart."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.bus.arriving_blob import CHUNK, WINDOW
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.nats.bulk import BulkLink
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.core.errors import Unreachable
from tests.bus.meeting import (
    Meeting,
    Server,
    blob,
    on_nats,
)


class Counting:
    """A count of the chunks that blobs send and take; it calls ``at_chunk`` with each number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        self.taken = 0
        self.at_chunk: Callable[[int], object] = lambda number: None
        publish, read_into = BulkLink.publish, BulkLink.read_into

        def counted_publish(link: BulkLink, subject: str, payload: memoryview | bytes, header: str = "") -> None:
            publish(link, subject, payload, header)
            if subject.startswith("$O.") and ".C." in subject:
                self.sent += 1
                self.at_chunk(self.sent)

        def counted_read_into(link: BulkLink, target: memoryview) -> None:
            read_into(link, target)
            if len(target) == CHUNK:
                self.taken += 1
                self.at_chunk(self.taken)

        monkeypatch.setattr(BulkLink, "publish", counted_publish)
        monkeypatch.setattr(BulkLink, "read_into", counted_read_into)

    def reset(self) -> None:
        self.sent = self.taken = 0
        self.at_chunk = lambda number: None


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


async def messages_of(bus: Bus, bucket: str) -> int:
    """Return how many messages a bucket has ever stored, chunks and descriptions together."""
    assert isinstance(bus, NatsBus)
    answer = await bus.connection.ask(f"$JS.API.STREAM.INFO.OBJ_{bucket}")
    return int(answer["state"]["last_seq"])


@on_nats
async def test_a_blob_that_is_there_is_not_sent_again(meeting: Meeting, tmp_path: Path, chunks: Counting) -> None:
    ref = blob(tmp_path / "source", 2 * CHUNK)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(tmp_path / "source", ref)
        assert (chunks.sent, await messages_of(bus, "models")) == (2, 3)
        stored = await store.put(tmp_path / "source", ref)
        assert stored.bucket == "models"
        assert (chunks.sent, await messages_of(bus, "models")) == (2, 4)  # its description alone: it is young again


@on_nats
async def test_an_upload_goes_on_after_the_last_chunk(meeting: Meeting, tmp_path: Path, chunks: Counting) -> None:
    source = tmp_path / "source"
    ref = blob(source, 4 * CHUNK + 7)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        with source.open("rb") as file:
            for place in range(3):
                await _chunk(bus, ref, place, file.read(CHUNK))
        assert not await store.has(ref.digest)  # a blob exists once its description is stored
        await store.put(source, ref)
        assert chunks.sent == 2
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()


async def _chunk(bus: NatsBus, ref: WeightsRef, place: int, content: bytes) -> None:
    await bus.connection.request(f"$O.models.C.{ref.digest}", content, headers={"Heliograph-Chunk": str(place)})


@on_nats
@pytest.mark.parametrize("left", [[1], [1, 1], [0, 2], [2, 0, 1]])
async def test_chunks_of_a_deleted_blob_that_a_killed_broker_brings_back_do_no_harm(
    meeting: Meeting, tmp_path: Path, chunks: Counting, left: list[int]
) -> None:
    source = tmp_path / "source"
    ref = blob(source, 2 * CHUNK + 7)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        content = source.read_bytes()
        for place in left:
            await _chunk(bus, ref, place, content[place * CHUNK : (place + 1) * CHUNK])
        await store.put(source, ref)
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == content


@on_nats
async def test_chunks_that_come_back_before_a_download_are_passed_over(meeting: Meeting, tmp_path: Path) -> None:
    source = tmp_path / "source"
    ref = blob(source, 2 * CHUNK + 7)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        content = source.read_bytes()
        for place in (2, 1, 0, 0, 1, 2, 2):
            await _chunk(bus, ref, place, content[place * CHUNK : (place + 1) * CHUNK])
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == content


@on_nats
async def test_chunks_of_a_longer_blob_are_discarded(meeting: Meeting, tmp_path: Path, chunks: Counting) -> None:
    source = tmp_path / "source"
    ref = blob(source, CHUNK)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        for _ in range(2):
            await bus.connection.request(f"$O.models.C.{ref.digest}", bytes(CHUNK))
        await store.put(source, ref)
        assert chunks.sent == 1
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()


@on_nats
async def test_a_small_blob_whose_upload_ended_before_its_description_is_complete_after_the_next(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source = tmp_path / "source"
    ref = blob(source, 1000)
    async with meeting.clients() as (bus,):
        assert isinstance(bus, NatsBus)
        store = await bus.blobs("models")
        await _chunk(bus, ref, 0, source.read_bytes())
        await store.put(source, ref)
        assert chunks.sent == 0
        await store.fetch(ref, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()


TOTAL = WINDOW + 4


def killing(server: Server | None, at: int) -> Callable[[int], None]:
    """Return a function that kills the broker at that chunk, in the transfer's thread: no acknowledgement follows."""
    assert server is not None
    assert server.process is not None
    pid = server.process.pid

    def kill(number: int) -> None:
        if number == at:
            os.kill(pid, signal.SIGKILL)

    return kill


@on_nats
async def test_an_upload_goes_on_after_the_broker_was_killed(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source = tmp_path / "source"
    ref = blob(source, TOTAL * CHUNK)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        chunks.at_chunk = killing(meeting.server, TOTAL - 1)
        with pytest.raises(Unreachable):
            await store.put(source, ref)
        await meeting.cut(bus)
        await meeting.mend(bus)
        assert not await store.has(ref.digest)
        chunks.reset()
        await store.put(source, ref)
        # all chunks sent before the last window had been acknowledged, so they are on disk
        assert 0 < chunks.sent <= TOTAL - (TOTAL - 1 - WINDOW)
        chunks.reset()
        await store.fetch(ref, tmp_path / "target")
        assert chunks.taken == TOTAL
        assert hashlib.sha256((tmp_path / "target").read_bytes()).hexdigest() == ref.digest


@on_nats
async def test_a_download_goes_on_after_the_broker_was_killed_twice(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    ref = blob(source, TOTAL * CHUNK)
    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(source, ref)
        chunks.reset()
        early = WINDOW // 2 - 1  # further chunks have not been asked for yet
        chunks.at_chunk = killing(meeting.server, early)
        with pytest.raises(Unreachable):
            await store.fetch(ref, target)
        assert not target.exists()
        taken = chunks.taken
        assert taken >= early
        await meeting.cut(bus)
        await meeting.mend(bus)
        chunks.reset()

        def cut(number: int) -> None:
            raise Unreachable("cut by the test before anything reached the disk")

        chunks.at_chunk = cut
        with pytest.raises(Unreachable, match="cut by the test"):
            await store.fetch(ref, target)
        chunks.reset()
        await store.fetch(ref, target)
        assert chunks.taken <= TOTAL - taken + 1  # the last chunk may not have been noted
        assert hashlib.sha256(target.read_bytes()).hexdigest() == ref.digest
        assert sorted(each.name for each in tmp_path.glob("target*")) == ["target"]


@on_nats
async def test_a_download_whose_beginning_was_damaged_on_disk_begins_anew(
    meeting: Meeting, tmp_path: Path, chunks: Counting
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    ref = blob(source, 3 * CHUNK)

    def cut(number: int) -> None:
        if number == 3:
            raise Unreachable("cut by the test")

    async with meeting.clients() as (bus,):
        store = await bus.blobs("models")
        await store.put(source, ref)
        chunks.reset()
        chunks.at_chunk = cut
        with pytest.raises(Unreachable, match="cut by the test"):
            await store.fetch(ref, target)
        chunks.reset()
        part = tmp_path / "target.part"
        part.write_bytes(b"x" + part.read_bytes()[1:])
        with pytest.raises(Unreachable, match="damaged"):
            await store.fetch(ref, target)
        assert chunks.taken == 1
        await store.fetch(ref, target)
        assert chunks.taken == 4
        assert target.read_bytes() == source.read_bytes()
