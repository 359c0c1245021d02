"""Retained messages of clients: a broker hands them to each new subscriber, which must not do them again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

MODEL = {"kind": "Model", "metadata": {"name": "kept"}}
DELETE = json.dumps({"name": "kept", "reply_to": "heliograph/reply/foreign/1"}).encode()


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Bus]:
    async with connect(url, name=name) as bus:
        await bus.link.wait_up(HANGS)
        yield bus


@pytest.mark.long
async def test_a_retained_deletion_at_an_external_door_is_done_once(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Any]]
) -> None:
    door = await mosquitto()
    async with LocalCluster(tmp_path / "cluster", [], doors=(door.url(),)) as cluster:
        async with AsyncClient(cluster.server, timeout=HANGS) as client, connected(door.url(), "foreign") as foreign:
            await client.models.create(MODEL)
            async with foreign.subscribe("reply/foreign/+") as replies, asyncio.timeout(HANGS):
                await foreign.publish("request/models/delete", DELETE, retain=True)
                assert json.loads((await anext(replies)).body)["ok"]
            await client.models.create(MODEL)
            for _ in range(2):
                await cluster.kill(COORDINATOR)
                await cluster.start_coordinator()
                await cluster.wait_ready(HANGS)
                await cluster.wait_for_line(COORDINATOR, "request/models/delete: expected a message of now", HANGS)
                async with foreign.subscribe("status/models/kept") as statuses, asyncio.timeout(HANGS):
                    assert decode((await anext(statuses)).body).data["metadata"]["name"] == "kept"
                async with AsyncClient(door.url(), timeout=HANGS) as at_door:  # asks after the retained request
                    assert (await at_door.models.get("kept"))["metadata"]["name"] == "kept"


@pytest.mark.long
async def test_retained_telemetry_is_journalled_when_it_is_published_and_never_again(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Any]]
) -> None:
    node = await mosquitto()
    async with LocalCluster(tmp_path / "cluster", ["edge-1", "edge-2"], edge_brokers={"edge-2": node.url()}) as cluster:
        embedded = cluster.nodes["edge-1"].broker
        assert embedded is not None
        async with connected(embedded.url("agent"), "looking") as bus:
            assert isinstance(bus, NatsBus)
            stream = await bus.connection.ask("$JS.API.STREAM.INFO.$MQTT_rmsgs")
            assert 0 < stream["config"]["max_bytes"] <= 1 << 28
        urls = {"edge-1": embedded.url(scheme="mqtt"), "edge-2": node.url()}
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            for edge, url in urls.items():
                async with connected(url, "devices") as devices:
                    await devices.publish(topics.TELEMETRY.at(edge=edge, device="meter"), b'{"n":0}', retain=True)
                    bad = topics.TELEMETRY.at(edge=edge, device="broken")
                    await devices.publish(bad, b'{"n":18446744073709551616}', retain=True)
            for restart in (1, 2):
                for edge, url in urls.items():
                    await cluster.kill(edge)
                    await cluster.start_agent(edge)
                    await cluster.wait_ready(HANGS)
                    for device in ("meter", "broken"):
                        line = f"event/telemetry/{edge}/{device}: expected a message of now"
                        await cluster.wait_for_line(edge, line, HANGS)
                    async with connected(url, "devices") as devices:
                        text = json.dumps({"n": restart}).encode()
                        await devices.publish(topics.TELEMETRY.at(edge=edge, device="meter"), text)
            for edge in urls:
                found = []
                async with client.bus.consume(topics.TELEMETRY.filter(edge=edge)) as stored, asyncio.timeout(HANGS):
                    while not found or found[-1]["n"] < 2:
                        found.append(decode((await anext(stored)).body).data)
                assert found == [{"n": 0}, {"n": 1}, {"n": 2}], edge
