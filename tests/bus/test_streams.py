"""Streams: storing events, consuming them, and reading the last value."""

from __future__ import annotations

import pytest

from heliograph.bus.contract.lanes import EXPECTED_LAST
from heliograph.bus.contract.topics import TASK, TELEMETRY
from heliograph.bus.nats import consumer as nats_consume
from heliograph.core.errors import Refused
from tests.bus.meeting import (
    EVENT,
    NATS,
    Meeting,
    following,
    where_events_are_stored,
)


@where_events_are_stored
async def test_an_event_is_stored_and_its_sequence_returned(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        assert bus.durable
        assert [await bus.publish(EVENT, b"%d" % n) for n in range(3)] == [1, 2, 3]
        assert await bus.publish("edge/a/up/log/agent/b", b"") == 0


@where_events_are_stored
async def test_consuming_starts_at_a_sequence_and_goes_on_live(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        for number in range(1, 6):
            await one.publish(EVENT, b"%d" % number, headers={"N": str(number)})
        async with other.consume(TELEMETRY.filter(edge="edge-1"), start=3) as messages:
            kept = [await following(messages) for _ in range(3)]
            assert [(each.sequence, each.body, each.headers["N"]) for each in kept] == [
                (3, b"3", "3"),
                (4, b"4", "4"),
                (5, b"5", "5"),
            ]
            await one.publish("event/telemetry/edge-2/camera", b"of another edge")
            await one.publish(EVENT, b"7")
            live = await following(messages)
            assert (live.topic, live.sequence, live.body) == (EVENT, 7, b"7")


@where_events_are_stored
async def test_consuming_more_than_a_window(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        for number in range(30):
            await one.publish(EVENT, b"%d" % number)
        async with other.consume(TELEMETRY.filter(), window=4) as messages:
            assert [int((await following(messages)).body) for _ in range(30)] == list(range(30))


@where_events_are_stored
async def test_an_unacknowledged_event_comes_again(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_consume, "ACK_WAIT", 0.2)
    async with meeting.clients(2) as (one, other):
        for number in range(1, 4):
            await one.publish(EVENT, b"%d" % number)
        async with other.consume(TELEMETRY.filter(), durable="reader") as messages:
            first = [await following(messages) for _ in range(3)]
            assert [(each.sequence, each.redelivered) for each in first] == [(1, False), (2, False), (3, False)]
            await first[0].ack()
            await first[2].ack()
        async with one.consume(TELEMETRY.filter(), durable="reader") as messages:
            again = await following(messages)
            assert (again.sequence, again.body, again.redelivered) == (2, b"2", True)
            await again.ack()
            await one.publish(EVENT, b"4")
            fresh = await following(messages)
            assert (fresh.sequence, fresh.redelivered) == (4, False)
            await fresh.ack()
        async with other.consume(TELEMETRY.filter(), durable="another") as messages:
            assert [(await following(messages)).sequence for _ in range(4)] == [1, 2, 3, 4]


@where_events_are_stored
async def test_a_topic_without_a_stream_can_not_be_consumed(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        with pytest.raises(Refused) as refused:
            async with bus.consume("status/#"):
                pass
        assert refused.value.code == "no-stream"


@pytest.mark.parametrize("kind", [NATS])
@pytest.mark.parametrize("durable", ["", "reader"])
async def test_consuming_goes_on_after_the_broker_was_killed(meeting: Meeting, durable: str) -> None:
    async with (
        meeting.clients(2) as (one, other),
        other.consume(TELEMETRY.filter(), durable=durable) as messages,
    ):
        for start in (1, 4, 7):
            for number in range(start, start + 3):
                assert await one.publish(EVENT, b"%d" % number) == number
            fresh: list[int] = []
            while len(fresh) < 3:
                message = await following(messages)
                assert message.body == b"%d" % message.sequence
                await message.ack()
                # only acknowledgements that the killed broker had not noted may cause repeats
                if message.sequence >= start or not durable:
                    fresh.append(message.sequence)
            assert fresh == [start, start + 1, start + 2]
            await meeting.cut(one, other)
            await meeting.mend(one, other)


@where_events_are_stored
async def test_last_is_the_newest_of_its_address(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        assert await other.last(TASK.at(edge="edge-1")) is None
        await one.publish(TASK.at(edge="edge-1"), b"old")
        await one.publish(TASK.at(edge="edge-2"), b"of another edge")
        await one.publish(TASK.at(edge="edge-1"), b"new")
        message = await other.last(TASK.at(edge="edge-1"))
        assert message is not None
        assert (message.topic, message.body, message.sequence) == (TASK.at(edge="edge-1"), b"new", 3)
        async with other.consume(TASK.filter()) as messages:  # a last-value stream keeps only the last
            assert [(await following(messages)).body for _ in range(2)] == [b"of another edge", b"new"]


@pytest.mark.parametrize("kind", [NATS])
async def test_stored_events_outlive_a_kill(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        await bus.publish(TASK.at(edge="edge-1"), b"desired")
        revision = await (await bus.kv("state")).put("a", b"1")
        await meeting.cut(bus)
        await meeting.mend(bus)
        message = await bus.last(TASK.at(edge="edge-1"))
        assert message is not None
        assert message.body == b"desired"
        entry = await (await bus.kv("state")).get("a")
        assert entry is not None
        assert (entry.value, entry.revision) == (b"1", revision)


@where_events_are_stored
async def test_a_forgotten_address_has_no_message_and_takes_new_ones(meeting: Meeting) -> None:
    one, two = TASK.at(edge="edge-1"), TASK.at(edge="edge-2")
    async with meeting.clients() as (bus,):
        await bus.publish(one, b"of one")
        await bus.publish(two, b"of two")
        await bus.forget(one)
        assert await bus.last(one) is None
        kept = await bus.last(two)
        assert kept is not None
        assert kept.body == b"of two"
        await bus.publish(one, b"anew", headers={EXPECTED_LAST: "0"})
        async with bus.consume(TASK.filter()) as messages:
            assert [(await following(messages)).body for _ in range(2)] == [b"of two", b"anew"]
