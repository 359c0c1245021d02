"""What MQTT clients make the embedded broker keep is bounded, and retained requests are removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.nats import mqtt_streams
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.local.nats_server import Broker
from tests.bus.meeting import PATIENCE, following

Start = Callable[..., Awaitable[Broker]]


@asynccontextmanager
async def connected(server: Broker, user: str, scheme: Literal["nats", "mqtt"] = "nats") -> AsyncIterator[Bus]:
    """Connect to where MQTT clients are."""
    async with connect(server.door_url(user) if scheme == "nats" else server.url(user, scheme)) as bus:
        await bus.link.wait_up(PATIENCE)
        yield bus


async def retained(bus: Bus) -> tuple[int, int]:
    """Return the number of retained messages and their bytes."""
    assert isinstance(bus, NatsBus)
    state = (await bus.connection.ask(f"$JS.API.STREAM.INFO.{mqtt_streams.RETAINED}"))["state"]
    return state["messages"], state["bytes"]


async def test_before_the_first_mqtt_client_there_is_nothing_to_bound(broker: Start) -> None:
    async with connected(await broker(), "coordinator") as cloud:
        await cloud.bound_mqtt()
        assert await cloud.drop_retained() == 0


async def test_retained_messages_of_users_are_removed_and_statuses_stay(broker: Start) -> None:
    server = await broker()
    async with connected(server, "coordinator") as cloud, connected(server, "coordinator", "mqtt") as door:
        await door.publish("status/jobs/one", b"Running", retain=True)
        async with connected(server, "alice", "mqtt") as alice:
            for number in range(5):
                await alice.publish("request/jobs/delete", b'{"name":"%d"}' % number, retain=True)
                await alice.publish(f"request/models/verb-{number}", b"{}", retain=True)
        assert (await retained(cloud))[0] == 7
        assert await cloud.drop_retained() == 6
        assert await cloud.drop_retained() == 0
        assert (await retained(cloud))[0] == 1
        async with connected(server, "coordinator", "mqtt") as late, late.subscribe("#") as messages:
            assert (await following(messages)).topic == "status/jobs/one"
            await door.publish("request/jobs/list", b"{}")
            assert (await following(messages)).topic == "request/jobs/list"  # no retained one before it


async def test_the_bounds_hold_between_sweeps_and_over_a_restart_of_the_broker(
    broker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 1024 * 1024
    monkeypatch.setitem(mqtt_streams.BOUNDS, mqtt_streams.RETAINED, most)
    server = await broker()
    async with connected(server, "coordinator") as cloud:
        for _ in range(2):
            async with connected(server, "alice", "mqtt") as alice:
                await cloud.bound_mqtt()
                for number in range(30):
                    await alice.publish(f"request/jobs/verb-{number}", bytes(100_000), retain=True)
            messages, size = await retained(cloud)
            assert 0 < messages < 30
            assert size <= most
            await server.kill()
            await server.start()
            await cloud.link.wait_up(PATIENCE)


async def test_every_stream_of_the_brokers_mqtt_is_bounded(broker: Start) -> None:
    server = await broker()
    async with connected(server, "coordinator") as cloud, connected(server, "alice", "mqtt"):
        await cloud.bound_mqtt()
        assert isinstance(cloud, NatsBus)
        streams = (await cloud.connection.ask("$JS.API.STREAM.LIST"))["streams"]
        found = {each["config"]["name"]: each["config"]["max_bytes"] for each in streams}
        assert found == mqtt_streams.BOUNDS
