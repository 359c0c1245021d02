"""MQTT over thin links: what stands before the answer to a ping is no reason to end a connection, or to send again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Ack
from heliograph.bus.mqtt import connection as mqtt_connection
from heliograph.bus.mqtt.bus import MqttBus
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from heliograph.local.relay import Relay
from heliograph.workers.outbox import Outbox
from tests.patience import HANGS

EVENT = "event/telemetry/edge-1/camera"


@asynccontextmanager
async def thin(url: str, host: str, port: int, rate: float, latency: float) -> AsyncIterator[tuple[Relay, Bus]]:
    """Yield a link, and a client behind it."""
    relay = Relay(host, port, World(), buffer=4096)
    await relay.start()
    try:
        async with connect(url.replace(str(port), str(relay.port))) as bus:
            await bus.link.wait_up(HANGS)
            relay.bandwidth, relay.latency = rate, latency
            yield relay, bus
    finally:
        await relay.stop()


@pytest.fixture(params=["mosquitto", "nats-server"])
async def url(
    request: pytest.FixtureRequest, broker: Callable[..., Awaitable[Broker]], mosquitto: Callable[[], Awaitable[Any]]
) -> tuple[str, str, int]:
    if request.param == "mosquitto":
        server = await mosquitto()
        return server.url(), server.host, server.port
    cloud = await broker()
    return cloud.url("coordinator", "mqtt"), cloud.host, cloud.mqtt_port


async def test_a_message_that_takes_longer_than_two_pings_arrives_on_one_connection(
    url: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "KEEPALIVE", 1)
    monkeypatch.setattr(mqtt_connection, "TIMEOUT", 0.5)
    address, host, port = url
    body = b"x" * 120_000
    async with connect(address) as reader, thin(address, host, port, 30_000.0, 0.05) as (relay, bus):
        downs = 0

        def changed(up: bool) -> None:
            nonlocal downs
            downs += not up

        bus.link.listen(changed)
        await reader.link.wait_up(HANGS)
        await reader.prepare()
        async with reader.subscribe(EVENT) as messages, asyncio.timeout(HANGS):
            before = relay.bytes_up
            await bus.publish(EVENT, body)
            assert (await anext(messages)).body == body
        assert downs == 0
        assert relay.bytes_up - before < 1.1 * len(body)
        assert isinstance(bus, MqttBus)


async def test_an_outbox_repeats_events_a_few_times_at_most_on_a_long_link(url: tuple[str, str, int]) -> None:
    address, host, port = url
    world, count = World(), 40
    async with connect(address) as node, thin(address, host, port, 20_000.0, 0.8) as (_, bus):
        await node.link.wait_up(HANGS)
        worker, agent = Port(bus, world, "edge-1/camera/life"), Port(node, world, "edge-1/agent/life")
        outbox, seen = Outbox(worker, "camera", "life", None), list[int]()
        async with node.subscribe(EVENT) as messages:
            await outbox.open()

            async def acknowledge() -> None:
                async for message in messages:
                    event = topics.TELEMETRY.match(message.topic) and agent.read(topics.TELEMETRY, message).event
                    assert event and event.sequence is not None
                    seen.append(event.sequence)
                    await agent.publish(topics.ACK, Ack(incarnation="life", sequence=event.sequence), producer="camera")

            acknowledging = asyncio.create_task(acknowledge())
            try:
                async with asyncio.timeout(HANGS):
                    payload = topics.TELEMETRY.validate({"n": 1}, EVENT)
                    await outbox.send(topics.TELEMETRY, payload, edge="edge-1", device="camera")
                    await outbox.flush()  # its acknowledgement tells how long the link is
                    for _ in range(count):
                        await outbox.send(topics.TELEMETRY, payload, edge="edge-1", device="camera")
                    await outbox.flush()
            finally:
                acknowledging.cancel()
                await outbox.close()
        assert set(seen) == set(range(1, count + 2))
        assert len(seen) <= 4 * count  # repeated a few times, and never without end
