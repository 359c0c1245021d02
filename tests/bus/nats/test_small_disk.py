"""A broker with a small disk: the streams' bounds fit it, and a disk that has become too small stops nobody."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract import buckets, registry, topics
from heliograph.bus.contract.payloads import Anything
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.local.nats_server import Broker, User
from tests.patience import HANGS

DECLARED = {stream.name: stream.max_bytes for stream in registry.BUILT_IN.streams()}
TELEMETRY = topics.TELEMETRY.at(edge="edge-1", device="meter")


class SmallBroker(Broker):
    """A broker with ``room`` bytes for JetStream."""

    room = 1 << 30

    def config(self) -> str:
        tree = json.loads(super().config())
        tree["jetstream"]["max_file_store"] = self.room
        return json.dumps(tree)


@asynccontextmanager
async def _broker(directory: Path) -> AsyncIterator[SmallBroker]:
    broker = SmallBroker(directory / "broker", "cloud", (User("coordinator", "secret", "coordinator"),))
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


@asynccontextmanager
async def _prepared(broker: Broker, said: list[str]) -> AsyncIterator[NatsBus]:
    async with NatsBus(broker.url("coordinator"), "heliograph", World(say=said.append), "coordinator") as bus:
        await bus.link.wait_up(HANGS)
        await bus.prepare()
        await bus.kv(buckets.RESOURCES)
        await bus.blobs(buckets.MODELS)
        yield bus


async def _bounds(bus: NatsBus) -> Mapping[str, Any]:
    found = {name: await bus.connection.stream_config(name) for name in DECLARED}
    return {name: config["max_bytes"] for name, config in found.items() if config is not None}


async def test_on_a_small_disk_the_bounds_are_smaller_and_grow_again_with_it(tmp_path: Path) -> None:
    said: list[str] = []
    async with _broker(tmp_path) as broker:
        async with _prepared(broker, said) as bus:
            bounds = await _bounds(bus)
            assert bounds.keys() == DECLARED.keys()
            reserved = {name: bound for name, bound in bounds.items() if bound > 0}
            assert reserved.keys() == {name for name, bound in DECLARED.items() if bound > 0}
            assert {DECLARED[name] / bound for name, bound in reserved.items()} == {16}
            assert sum(reserved.values()) < broker.room
        assert len(said) == 1 and "1/16" in said[0]
        await broker.stop()
        broker.room = 20 << 30
        await broker.start()
        async with _prepared(broker, said) as bus:
            assert await _bounds(bus) == DECLARED
        assert len(said) == 1


async def test_a_disk_that_has_become_too_small_is_said_and_everything_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    async with _broker(tmp_path) as broker:
        async with _prepared(broker, said) as bus:
            before = await _bounds(bus)
        await broker.stop()
        broker.room = 100 << 20
        await broker.start()
        async with _prepared(broker, said) as bus:
            assert await _bounds(bus) == before
            await Port(bus, World(), "edge-1/a/1").publish(
                topics.TELEMETRY, Anything(n=1), edge="edge-1", device="meter"  # type: ignore[call-arg]
            )
            assert await bus.last(TELEMETRY) is not None
        assert "streams stay as they are" in said[-1]


async def test_every_stream_and_bucket_has_a_bound(tmp_path: Path) -> None:
    said: list[str] = []
    async with _broker(tmp_path) as broker, _prepared(broker, said) as bus:
        listed = (await bus.connection.ask("$JS.API.STREAM.LIST"))["streams"]
        assert len(listed) == len(DECLARED) + 2
        for each in listed:
            config = each["config"]
            assert config["max_bytes"] > 0 or config["max_msgs"] > 0, config["name"]
            assert config["max_msg_size"] > 0, config["name"]


async def test_a_disk_without_any_room_is_named(tmp_path: Path) -> None:
    async with _broker(tmp_path) as broker:
        await broker.stop()
        broker.room = 1 << 20
        await broker.start()
        with pytest.raises(HeliographError, match="insufficient storage"):
            async with _prepared(broker, []):
                pass
