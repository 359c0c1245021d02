"""Retained values, as MQTT has them."""

from __future__ import annotations

from tests.bus.meeting import (
    Meeting,
    following,
    retained_value,
    where_values_are_retained,
)


@where_values_are_retained
async def test_a_late_subscriber_gets_the_retained_value(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe("status/#") as early:
        await one.publish("status/jobs/a", b"old", retain=True)
        await one.publish("status/jobs/a", b"new", retain=True)
        await one.publish("status/jobs/b", b"not kept")
        heard = [await following(early) for _ in range(3)]
        assert [each.body for each in heard] == [b"old", b"new", b"not kept"]
        assert not any(each.retained for each in heard)
        await retained_value(other, "status/jobs/a", b"new")
        async with one.subscribe("status/jobs/+") as late:
            message = await following(late)
            assert (message.topic, message.body, message.retained) == ("status/jobs/a", b"new", True)
            await other.publish("status/jobs/c", b"live")
            assert (await following(late)).topic == "status/jobs/c"


@where_values_are_retained
async def test_an_empty_value_removes_the_retained_one(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other):
        async with other.subscribe("status/#") as early:
            await one.publish("status/jobs/a", b"old", retain=True)
            await one.publish("status/jobs/a", b"", retain=True)
            assert [(await following(early)).body for _ in range(2)] == [b"old", b""]
        first = "status/jobs/a"
        while first == "status/jobs/a":  # nats-server removes a value some time after its acknowledgement
            async with other.subscribe("status/jobs/+") as late:
                await one.publish("status/jobs/b", b"live")
                first = (await following(late)).topic
        assert first == "status/jobs/b"
