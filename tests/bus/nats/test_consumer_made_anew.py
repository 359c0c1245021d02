"""A consumer that cannot be made at once is made as soon as it can be, without a wait for the next sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from heliograph.bus.contract.topics import TELEMETRY
from heliograph.bus.nats import consumer
from heliograph.core.errors import HeliographError
from heliograph.local.nats_server import Broker
from tests.bus.nats.test_replicas import logged_in
from tests.patience import HANGS


async def test_it_goes_on_once_its_stream_is_there_again(
    broker: Callable[..., Awaitable[Broker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "PULL_EXPIRES", 10 * HANGS)  # a wait for the end of a pull would fail the test
    refused, create = asyncio.Event(), consumer.Puller._create

    async def creating(self: consumer.Puller) -> None:
        try:
            await create(self)
        except HeliographError:
            refused.set()
            raise

    monkeypatch.setattr(consumer.Puller, "_create", creating)
    async with logged_in(await broker(), 0) as bus, asyncio.timeout(HANGS):
        await bus.prepare()
        topic = TELEMETRY.at(edge="edge-1", device="meter")
        await bus.publish(topic, b"1")
        async with bus.consume(TELEMETRY.filter()) as messages:
            assert (await anext(messages)).body == b"1"
            following = asyncio.ensure_future(anext(messages))
            stream = bus.connection.subjects.stream_of(TELEMETRY.filter())
            await bus.connection.ask(f"$JS.API.STREAM.DELETE.{stream}")
            await refused.wait()
            await bus.prepare()
            for number in (b"2", b"3"):  # the stream counts from 1 again, and the consumer goes on after 1
                await bus.publish(topic, number)
            assert (await following).body == b"3"
