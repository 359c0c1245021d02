"""Publishing and subscribing, the same on every transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.topics import LOG, REQUEST, TASK, TELEMETRY
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused
from heliograph.local.nats_server import Broker
from tests.bus.meeting import (
    EVENT,
    PATIENCE,
    Meeting,
    everywhere,
    following,
    where_events_are_stored,
)

A_LOG = "edge/a/up/log/agent/b"
OF_TWO = ["edge/edge-2/up/log/agent/a", "edge/edge-1/up/log/agent/a"]


@everywhere
async def test_a_published_message_arrives_unchanged(meeting: Meeting) -> None:
    body = bytes(range(256))
    async with meeting.clients(2) as (one, other), other.subscribe("event/telemetry/edge-1/+") as messages:
        await one.publish("event/telemetry/edge-2/camera", b"of another edge")
        await one.publish("edge/edge-1/up/log/agent/started", b"of another topic")
        await one.publish(EVENT, body)
        message = await following(messages)
    assert (message.topic, message.body, message.retained) == (EVENT, body, False)


@everywhere
async def test_an_empty_body_arrives(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,), bus.subscribe("edge/+/up/log/#") as messages:
        await bus.publish("edge/edge-1/up/log/agent/a", b"")
        assert (await following(messages)).body == b""


@everywhere
async def test_messages_come_in_order(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe(TELEMETRY.filter()) as messages:
        for number in range(200):
            await one.publish(EVENT, b"%d" % number)
        assert [int((await following(messages)).body) for _ in range(200)] == list(range(200))


@everywhere
async def test_a_subscription_may_have_several_patterns(meeting: Meeting) -> None:
    async with (
        meeting.clients(2) as (one, other),
        other.subscribe("edge/edge-1/up/log/agent/+", "status/+/+") as both,
        other.subscribe("event/telemetry/#") as events,
    ):
        for topic in ("edge/edge-2/up/log/agent/a", "edge/edge-1/up/log/agent/a", EVENT, "status/jobs/one"):
            await one.publish(topic, topic.encode())
        assert [(await following(both)).topic for _ in range(2)] == ["edge/edge-1/up/log/agent/a", "status/jobs/one"]
        assert (await following(events)).topic == EVENT


@where_events_are_stored  # an MQTT broker sends a copy for each pattern
async def test_overlapping_subscriptions_each_hear_a_message_once(meeting: Meeting) -> None:
    async with (
        meeting.clients(2) as (one, other),
        other.subscribe("edge/edge-1/up/log/agent/+", "status/+/+") as both,
        other.subscribe("edge/+/up/log/#") as logs,
        one.subscribe("edge/+/up/log/#") as own,
    ):
        for topic in ("edge/edge-2/up/log/agent/a", "edge/edge-1/up/log/agent/a", "status/jobs/one"):
            await one.publish(topic, topic.encode())
        assert [(await following(both)).topic for _ in range(2)] == ["edge/edge-1/up/log/agent/a", "status/jobs/one"]
        assert [(await following(logs)).topic for _ in range(2)] == OF_TWO
        assert [(await following(own)).topic for _ in range(2)] == OF_TWO


@everywhere
async def test_a_closed_subscription_takes_no_message_from_another(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe("edge/+/up/log/#") as staying:
        async with other.subscribe("edge/+/up/log/#") as leaving:
            await one.publish("edge/a/up/log/agent/b", b"1")
            assert (await following(leaving)).body == b"1"
        await one.publish("edge/a/up/log/agent/b", b"2")
        assert [(await following(staying)).body for _ in range(2)] == [b"1", b"2"]


@everywhere
async def test_too_large_is_refused_and_the_largest_arrives(meeting: Meeting) -> None:
    largest = bytes(LOG.max_size)
    async with meeting.clients(2) as (one, other), other.subscribe("edge/+/up/log/#") as messages:
        for refusing in (one.publish(A_LOG, largest + b"x"), one.request("request/jobs/list", bytes(2 << 20))):
            with pytest.raises(Refused) as refused:
                await refusing
            assert refused.value.code == "too-large"
        assert str(REQUEST.max_size) in refused.value.expected
        await one.publish("edge/a/up/log/agent/b", largest)
        assert len((await following(messages)).body) == LOG.max_size


UNDECLARED = ["nonsense", "a/b", "edge/a/task", "edge/Edge/down/task", "edge/a/down/task.b", "edge/+/down/task",
              "edge/a/up/log/agent/#", ""]  # fmt: skip


@everywhere
async def test_an_undeclared_topic_is_refused(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,), bus.subscribe("#") as messages:
        for topic in UNDECLARED:
            for refusing in (bus.publish(topic, b"{}"), bus.request(topic, b"{}", timeout=0.05)):
                with pytest.raises(Refused) as refused:
                    await refusing
                assert (refused.value.code, refused.value.topic) == ("unknown-topic", topic)
        await bus.publish("edge/a/up/log/agent/b", b"the first")
        assert (await following(messages)).topic == "edge/a/up/log/agent/b"


@where_events_are_stored
async def test_headers_travel(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,), bus.subscribe("edge/+/up/log/#") as messages:
        await bus.publish("edge/a/up/log/agent/b", b"", headers={"Lane": "edge-1/0", "Number": "7"})
        assert (await following(messages)).headers == {"Lane": "edge-1/0", "Number": "7"}


@where_events_are_stored
async def test_a_queue_shares_the_work(meeting: Meeting) -> None:
    async with (
        meeting.clients(3) as (one, two, three),
        two.subscribe("edge/+/up/log/#", queue="workers") as second,
        three.subscribe("edge/+/up/log/#", queue="workers") as third,
        three.subscribe("edge/+/up/log/#") as everything,
    ):
        heard: asyncio.Queue[Message] = asyncio.Queue()

        async def hear(messages: AsyncIterator[Message]) -> None:
            async for message in messages:
                heard.put_nowait(message)

        members = [asyncio.create_task(hear(second)), asyncio.create_task(hear(third))]
        for number in range(20):
            await one.publish("edge/a/up/log/agent/b", b"%02d" % number)
        for _ in range(20):
            await following(everything)
        async with asyncio.timeout(PATIENCE):
            shared = [(await heard.get()).body for _ in range(20)]
        # a connection delivers in order, so this message comes after the members' share
        for member in (two, three):
            async with member.subscribe("status/#") as marker:
                await member.publish("status/jobs/marker", b"")
                await following(marker)
        for each in members:
            each.cancel()
        assert sorted(shared) == [b"%02d" % number for number in range(20)]
        assert heard.empty()


async def test_two_tenants_on_one_broker_do_not_meet(broker: Callable[..., Awaitable[Broker]]) -> None:
    server = await broker()
    url = server.url("coordinator")
    async with connect(url, root="tenant-a") as one, connect(url, root="tenant/b") as two:
        for bus in (one, two):
            await bus.link.wait_up(PATIENCE)
            await bus.prepare()
        await one.publish(TASK.at(edge="edge-1"), b"of a")
        assert await two.last(TASK.at(edge="edge-1")) is None
        await two.publish(TASK.at(edge="edge-1"), b"of b")
        kept = await one.last(TASK.at(edge="edge-1"))
        assert kept is not None
        assert kept.body == b"of a"
