"""Brokers that come late, go away and come back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.mqtt import connection as mqtt_connection
from heliograph.bus.nats import bus as nats_bus
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.errors import HeliographError, LinkDown, Refused, Unreachable
from heliograph.local import nats_server as embedded
from heliograph.local.nats_server import Broker, free_ports
from tests.bus.meeting import (
    EVENT,
    MQTT,
    NATS,
    PATIENCE,
    Meeting,
    answering,
    everywhere,
    following,
    frozen,
    on_nats,
    with_mosquitto,
)


@everywhere
async def test_a_subscription_outlives_the_broker(meeting: Meeting) -> None:
    async with meeting.clients(2) as (one, other), other.subscribe("edge/+/up/log/#") as messages, answering(other):
        await one.publish("edge/a/up/log/agent/b", b"before")
        assert (await following(messages)).body == b"before"
        for round in (b"first", b"second"):
            await meeting.cut(one, other)
            with pytest.raises(Unreachable):
                await one.publish("edge/a/up/log/agent/b", b"lost")
            await meeting.mend(one, other)
            # a broker handles one connection's subscription before its later publish
            await other.publish("edge/a/up/log/agent/b", round)
            assert (await following(messages)).body == round
            await one.publish("edge/a/up/log/agent/b", round)
            assert (await following(messages)).body == round
            answer = await one.request("request/jobs/get", b'{"n": 7}', PATIENCE)
            assert json.loads(answer.body)["n"] == 7


@pytest.mark.parametrize("kind", [NATS, MQTT, with_mosquitto])
async def test_a_client_may_come_before_its_broker(meeting: Meeting) -> None:
    assert meeting.server is not None
    await meeting.server.kill()
    async with connect(meeting.url) as bus:
        with pytest.raises(Unreachable):
            await bus.link.wait_up(0.05)
        with pytest.raises(Unreachable):
            await bus.publish("edge/a/up/log/agent/b", b"")
        await meeting.mend(bus)
        async with bus.subscribe("edge/+/up/log/#") as messages:
            await bus.publish("edge/a/up/log/agent/b", b"at last")
            assert (await following(messages)).body == b"at last"


@pytest.mark.parametrize("kind", [MQTT, with_mosquitto])
async def test_a_publish_does_not_wait_for_an_acknowledgement_that_can_not_come(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "TIMEOUT", 10 * PATIENCE)
    async with meeting.clients() as (bus,):
        assert meeting.server is not None
        await frozen(meeting.server.process)
        publishing = asyncio.create_task(bus.publish(EVENT, b"on its way"))
        await meeting.cut(bus)
        with pytest.raises(LinkDown):  # rather than a timeout
            await publishing


async def test_a_broker_keeps_its_ports_or_says_that_it_can_not(
    broker: Callable[..., Awaitable[Broker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RETRY_SECONDS", 0.01)
    server = await broker("node")  # no connection of it has just ended, which would keep the port a little
    port = server.port
    await server.kill()
    with socket.socket() as other:
        other.bind((server.host, port))
        with pytest.raises(HeliographError, match="address already in use"):
            await server.start()
    await server.start()
    assert server.port == port
    async with connect(server.url("coordinator")) as bus:
        await bus.link.wait_up(PATIENCE)


async def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        connect("http://user:secret@localhost")
    assert refused.value.field == "url"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["nats", "mqtt"])
async def test_no_error_shows_a_password(scheme: str) -> None:
    async with connect(f"{scheme}://me:secret@127.0.0.1:{free_ports(1)[0]}") as bus:
        for failing in (bus.publish("edge/a/up/log/agent/b", b""), bus.link.wait_up(0.05)):
            with pytest.raises(Unreachable) as error:
                await failing
            assert "secret" not in str(error.value)


@on_nats
async def test_a_client_whose_broker_has_gone_is_closed_for_good(meeting: Meeting) -> None:
    before = asyncio.all_tasks()
    async with meeting.clients() as (bus,):
        assert meeting.server is not None
        await bus.publish("edge/a/up/log/agent/b", b"{}")
        await meeting.server.kill()  # the flush on closing finds no connection
    assert asyncio.all_tasks() <= before


@on_nats
async def test_calls_that_wait_for_an_answer_fail_at_once_when_the_link_goes_down(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "PUBLISH_TIMEOUT", 10 * PATIENCE)
    async with meeting.clients() as (bus,):
        assert isinstance(meeting.server, Broker)
        assert meeting.server.process is not None
        await frozen(meeting.server.process)
        assert isinstance(bus, NatsBus)
        asked = bus.connection.request("$JS.API.INFO", timeout=10 * PATIENCE)
        try:
            async with asyncio.timeout(PATIENCE):
                found = await asyncio.gather(bus.publish(EVENT, b"{}"), asked, return_exceptions=True)
        finally:
            os.kill(meeting.server.process.pid, signal.SIGCONT)
        assert [type(each) for each in found] == [LinkDown, LinkDown]


@on_nats
async def test_a_wait_for_the_broker_that_is_given_up_leaves_the_connection_up(meeting: Meeting) -> None:
    """The late answer to a cancelled wait must not end the connection."""
    assert meeting.server is not None and meeting.server.process is not None
    async with meeting.clients() as (one,), answering(one):
        assert isinstance(one, NatsBus)
        changes: list[bool] = []
        one.link.listen(changes.append)
        await frozen(meeting.server.process)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):  # a stopped broker answers nothing
                await one.connection.settle()
        os.kill(meeting.server.process.pid, signal.SIGCONT)
        await one.connection.settle()  # its answer follows the one that nobody awaits
        answer = await one.request("request/jobs/get", b'{"n": 1}', PATIENCE)
        assert json.loads(answer.body)["n"] == 1
        assert changes == [True]  # the state at the time of listen()
