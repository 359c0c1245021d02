"""Requests and answers, the same on every transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.core.errors import Unreachable
from heliograph.core.telemetry import EVENTS_PUBLISHED, Add, Counter, Telemetry
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.bus.meeting import (
    PATIENCE,
    Meeting,
    answering,
    everywhere,
    following,
)


@everywhere
async def test_each_request_gets_its_own_answer(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), answering(other):
        answers = await asyncio.gather(
            *(one.request(f"request/jobs/{verb}", json.dumps({"n": n}).encode(), PATIENCE)
              for n, verb in enumerate(["list", "get", "create", "list", "delete"]))
        )  # fmt: skip
    assert [json.loads(answer.body) for answer in answers] == [
        {"topic": f"request/jobs/{verb}", "n": n} for n, verb in enumerate(["list", "get", "create", "list", "delete"])
    ]


class Counting(Telemetry):
    """A count of the messages that buses published."""

    def __init__(self) -> None:
        self.published = 0

    def counter(self, instrument: Counter, **labels: str) -> Add:
        def add(amount: float) -> None:
            self.published += int(amount) if instrument == EVENTS_PUBLISHED else 0

        return add


@everywhere
async def test_a_request_and_its_answer_count_as_published(meeting: Meeting) -> None:
    asked, answered = Counting(), Counting()
    async with (
        connect(meeting.url, name="asking", world=World(telemetry=asked)) as one,
        connect(meeting.url, name="answering", world=World(telemetry=answered)) as other,
        answering(other),
    ):
        await one.link.wait_up(PATIENCE)
        await one.request("request/jobs/list", b'{"n": 1}', PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while not answered.published:  # the answer may arrive before its sender has counted it
                await asyncio.sleep(0)
    assert (asked.published, answered.published) == (1, 1)


@everywhere
async def test_a_request_that_nobody_answers_is_unreachable(meeting: Meeting) -> None:
    async with meeting.clients() as (bus,):
        with pytest.raises(Unreachable):
            await bus.request("request/jobs/list", b"{}", timeout=0.05)


@pytest.mark.mosquitto
async def test_mosquittos_own_client_gets_an_answer(mosquitto: Callable[[], Awaitable[Any]]) -> None:
    """Any MQTT 5 client can use the protocol's own request and response."""
    server = await mosquitto()
    async with connect(server.url()) as bus:
        await bus.link.wait_up(PATIENCE)
        async with answering(bus):
            asking = await asyncio.create_subprocess_exec(
                "mosquitto_rr", "-p", str(server.port), "-V", "5", "-W", "5", "-q", "1", "-m", '{"n": 3}',
                "-t", "heliograph/request/jobs/list", "-e", "heliograph/reply/foreign/one",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, _ = await asking.communicate()
    assert asking.returncode == 0
    assert json.loads(out) == {"topic": "request/jobs/list", "n": 3}


@pytest.mark.mosquitto
async def test_headers_reply_topic_and_correlation_travel_over_mqtt_5(
    mosquitto: Callable[[], Awaitable[Any]],
) -> None:
    server = await mosquitto()
    async with connect(server.url()) as bus:
        await bus.link.wait_up(PATIENCE)
        async with bus.subscribe("request/#") as messages:
            more = {"headers": {"lane": "0"}, "reply_to": "reply/me/1", "correlation": b"\x00"}
            await bus.publish("request/jobs/get", b"{}", **more)  # type: ignore[arg-type]
            message = await following(messages)
    assert message.headers == {"lane": "0"}
    assert (message.reply_to, message.correlation) == ("reply/me/1", b"\x00")


async def test_the_worlds_ids_name_the_inboxes(broker: Callable[..., Awaitable[Broker]]) -> None:
    """Two clients of the same name have different reply addresses."""
    server = await broker()
    url = server.url("coordinator", "mqtt")
    async with connect(url, name="same") as one, connect(url, name="same") as two, connect(url) as other:
        for bus in (one, two, other):
            await bus.link.wait_up(PATIENCE)
        async with answering(other):
            answers = await asyncio.gather(
                *(bus.request("request/jobs/get", b'{"n": %d}' % n, PATIENCE) for n, bus in enumerate((one, two)))
            )
    assert [json.loads(answer.body)["n"] for answer in answers] == [0, 1]
    assert World().new_id() != World().new_id()
