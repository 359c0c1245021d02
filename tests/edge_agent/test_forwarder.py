"""Replay: each lane in order, each event once in the cloud, despite cuts, losses and kills on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.lanes import MESSAGE_ID, HighWaterMarks, headers_of, lane_name
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import BULK, RESULTS
from heliograph.bus.nats.stream_making import ensure_stream
from heliograph.bus.transport import Bus, Message, Outgoing
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.forwarder import Forwarder
from heliograph.edge_agent.journal import Journal, KeptEvent
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.local.nats_server import Broker
from heliograph.local.relay import Relay
from tests.patience import HANGS, impatient

EDGE = "edge-1"
TELEMETRY = topics.TELEMETRY.at(edge=EDGE, device="meter")
UPDATE = topics.MODEL_UPDATE.at(job="job", edge=EDGE)
LABEL = topics.LABEL.at(edge="edge-1", job="job")
SAMPLE = topics.HARD_SAMPLE.at(job="job", edge=EDGE)


@dataclass
class Cloud:
    """A broker with its streams, a relay in front of it, and an edge's journal and forwarder."""

    broker: Broker
    watcher: Bus
    relay: Relay
    directory: Path
    refused: list[tuple[int, str]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def journal(self) -> Journal:
        return Journal(self.directory / "journal.db", EDGE, World(), warn=self.logged.append)

    @asynccontextmanager
    async def forwarding(self, journal: Journal, wrap: Callable[[Bus], Bus] = lambda bus: bus) -> AsyncIterator[Bus]:
        """Run the agent's side, through the relay and with the agent's own permissions."""
        url = self.broker.url(f"agent-{EDGE}").replace(str(self.broker.port), str(self.relay.port))
        async with connect(url, name="agent", inbox=inbox_of(EDGE), world=impatient()) as bus:

            async def nothing(kept: KeptEvent) -> None:
                return None

            forwarder = Forwarder(
                journal, wrap(bus), EDGE, World(), lambda kept: False, nothing,
                lambda kept, error: self.refused.append((kept.n, str(error))), self.logged.append,
            )  # fmt: skip
            running = asyncio.create_task(forwarder.run())
            try:
                yield bus
            finally:
                await cancel_and_wait(running)

    async def received(self, pattern: str, until: bytes) -> list[Message]:
        """Return a stream's messages up to the one with the body ``until``."""
        found: list[Message] = []
        async with asyncio.timeout(HANGS), self.watcher.consume(pattern) as messages:
            async for message in messages:
                found.append(message)
                if message.body == until:
                    return found
        raise AssertionError("the stream ended")


@pytest.fixture
async def cloud(broker: Callable[..., Awaitable[Broker]], tmp_path: Path) -> AsyncIterator[Cloud]:
    started = await broker()
    relay = Relay(started.host, started.port, World())
    await relay.start()
    async with connect(started.url("coordinator"), name="watcher") as watcher:
        await watcher.link.wait_up(HANGS)
        await watcher.prepare()
        yield Cloud(started, watcher, relay, tmp_path)
    await relay.stop()


async def _fill(journal: Journal, first: int, last: int, topic: str = TELEMETRY, lane: int = BULK) -> None:
    for n in range(first, last + 1):
        kept = journal.append(NewEvent(topic, b"%d" % n, lane))
    await kept


def _numbers(messages: Sequence[Message]) -> list[int]:
    return [int(each.body) for each in messages]


async def test_waiting_events_are_replayed_in_order_and_then_deleted(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = cloud.journal()
    forgotten = asyncio.Event()
    forget = journal.forget

    async def noted(lane: int, through: int) -> None:
        await forget(lane, through)
        if not journal.read(BULK, 0, 1, 1).events:
            forgotten.set()

    monkeypatch.setattr(journal, "forget", noted)
    await _fill(journal, 1, 5000)
    async with cloud.forwarding(journal):
        messages = await cloud.received(TELEMETRY, b"5000")
        assert _numbers(messages) == list(range(1, 5001))
        async with asyncio.timeout(HANGS):
            await forgotten.wait()
        assert journal.waiting == 0
    journal.close()


async def test_a_new_event_follows_at_once(cloud: Cloud) -> None:
    journal = cloud.journal()
    async with cloud.forwarding(journal):
        for n in range(1, 21):
            await journal.append(NewEvent(TELEMETRY, b"%d" % n, BULK))
            assert _numbers(await cloud.received(TELEMETRY, b"%d" % n)) == list(range(1, n + 1))
    journal.close()


async def test_a_link_cut_again_and_again_loses_and_repeats_nothing(cloud: Cloud) -> None:
    journal = cloud.journal()
    cloud.relay.bandwidth = 2e6  # makes each cut come in the middle
    async with cloud.forwarding(journal) as bus:
        for start in range(1, 20001, 2500):
            await _fill(journal, start, start + 2499)
            await bus.link.wait_up(HANGS)
            before = cloud.relay.bytes_up
            while cloud.relay.bytes_up < before + 30_000:
                await asyncio.sleep(0)
            cloud.relay.cut("reset")
            await bus.link.wait_down()
            cloud.relay.restore()
        cloud.relay.bandwidth = None
        assert _numbers(await cloud.received(TELEMETRY, b"20000")) == list(range(1, 20001))
    journal.close()


class LostAcknowledgements:
    """A bus that loses the first acknowledgement of every batch, after the batch was stored."""

    def __init__(self, bus: Bus, then: Callable[[], Awaitable[None]]) -> None:
        self._bus = bus
        self._then = then
        self.lost = 0

    async def publish_all(self, events: Sequence[Outgoing]) -> None:
        await self._bus.publish_all(events)
        if self.lost < 3:
            self.lost += 1
            await self._then()
            raise Unreachable("no answer in time")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


async def test_a_lost_acknowledgement_repeats_nothing(cloud: Cloud) -> None:
    async def nothing() -> None:
        return None

    await _lose_acknowledgements(cloud, nothing)


async def test_an_acknowledgement_lost_hours_ago_repeats_nothing(cloud: Cloud) -> None:
    """The broker forgets message ids after a while; the lane's stream still has the event."""
    name = "TELEMETRY"
    info = json.loads((await cloud.watcher.connection.request(f"$JS.API.STREAM.INFO.{name}")).data)  # type: ignore[attr-defined]
    config = info["config"] | {"duplicate_window": 100_000_000}
    await ensure_stream(cloud.watcher.connection, config)  # type: ignore[attr-defined]

    marks = count()

    async def until_forgotten() -> None:
        """Wait until the broker has forgotten an id that is newer than the lost batch, and so the batch too."""
        headers = {MESSAGE_ID: f"mark-{next(marks)}"}
        mark = topics.TELEMETRY.at(edge="edge-9", device="mark")
        first = await cloud.watcher.publish(mark, b"", headers=headers)
        async with asyncio.timeout(HANGS):
            while await cloud.watcher.publish(mark, b"", headers=headers) == first:
                pass

    await _lose_acknowledgements(cloud, until_forgotten)


async def _lose_acknowledgements(cloud: Cloud, then: Callable[[], Awaitable[None]]) -> None:
    journal = cloud.journal()
    await _fill(journal, 1, 2500)
    wrapped: list[LostAcknowledgements] = []

    def wrap(bus: Bus) -> Any:
        wrapped.append(LostAcknowledgements(bus, then))
        return wrapped[0]

    async with cloud.forwarding(journal, wrap):
        messages = await cloud.received(TELEMETRY, b"2500")
    assert wrapped[0].lost == 3
    assert _numbers(messages) == list(range(1, 2501))
    journal.close()


async def test_an_agent_killed_before_it_deleted_sent_events_repeats_nothing(cloud: Cloud) -> None:
    journal = cloud.journal()
    await _fill(journal, 1, 1500)
    before = (cloud.directory / "journal.db").read_bytes(), (cloud.directory / "journal.db-wal").read_bytes()
    async with cloud.forwarding(journal):
        await cloud.received(TELEMETRY, b"1500")
    journal.close()
    (cloud.directory / "journal.db").write_bytes(before[0])  # the agent was killed before it deleted any event
    (cloud.directory / "journal.db-wal").write_bytes(before[1])
    journal = cloud.journal()
    assert journal.waiting == 1500
    await _fill(journal, 1501, 1600)
    async with cloud.forwarding(journal):
        messages = await cloud.received(TELEMETRY, b"1600")
    assert _numbers(messages) == list(range(1, 1601))
    marks = HighWaterMarks()
    assert all(marks.is_new(each.headers) for each in messages)
    assert not any(marks.is_new(each.headers) for each in messages)
    journal.close()


async def test_labels_of_which_the_cloud_has_some_already_follow_at_once(cloud: Cloud) -> None:
    """Their address has no edge in it: it does not tell which of them the stream has."""
    journal = cloud.journal()
    lane = topics.LABEL.lane
    for number in range(1, 4):
        await journal.append(NewEvent(LABEL, b"%d" % number, lane))
    first = journal.read(lane, 0, 1, 1000).events[0]
    own = headers_of(lane_name(EDGE, journal.uuid, lane), first.n)
    journal.sent[lane] = first.n
    await cloud.watcher.publish(LABEL, b"1", headers=own)  # the agent was killed before it heard that it is stored
    async with cloud.forwarding(journal):
        messages = await cloud.received(LABEL, b"3")
    assert [each.body for each in messages] == [b"1", b"2", b"3"]
    journal.close()


async def test_results_pass_bulk(cloud: Cloud) -> None:
    journal = cloud.journal()
    await _fill(journal, 1, 20_000)
    cloud.relay.bandwidth = 3e6
    async with cloud.forwarding(journal):
        await cloud.received(TELEMETRY, b"1")
        await journal.append(NewEvent(UPDATE, b"update", RESULTS))
        await cloud.received(UPDATE, b"update")
        assert journal.waiting > 5000
    journal.close()


async def test_streams_in_turn_share_batches_and_keep_their_order(cloud: Cloud) -> None:
    journal = cloud.journal()
    for n in range(1, 1001):
        kept = journal.append(NewEvent(TELEMETRY if n % 2 else SAMPLE, b"%d" % n, BULK))
    await kept
    async with cloud.forwarding(journal):
        assert _numbers(await cloud.received(TELEMETRY, b"999")) == list(range(1, 1000, 2))
        assert _numbers(await cloud.received(SAMPLE, b"1000")) == list(range(2, 1001, 2))
    journal.close()


async def test_an_event_that_the_cloud_can_never_accept_is_dropped_alone_and_logged(cloud: Cloud) -> None:
    journal = cloud.journal()
    for body in (b"1", bytes(topics.LABEL.max_size + 1), b"3"):
        await journal.append(NewEvent(LABEL, body, RESULTS))
    async with cloud.forwarding(journal):
        assert [each.body for each in await cloud.received(LABEL, b"3")] == [b"1", b"3"]
    assert len(cloud.refused) == 1
    assert "expected at most" in cloud.refused[0][1]
    journal.close()


async def test_an_edge_may_not_read_another_edges_events(cloud: Cloud) -> None:
    async with cloud.forwarding(cloud.journal()) as bus:
        await bus.link.wait_up(HANGS)
        assert await bus.last(TELEMETRY) is None
        with pytest.raises((Unreachable, Refused)):
            async with asyncio.timeout(HANGS):
                await bus.last(topics.TELEMETRY.at(edge="edge-2", device="meter"))
