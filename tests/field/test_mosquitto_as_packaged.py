"""A node whose mosquitto is as its package leaves it: what it drops of what it acknowledged is counted and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiomqtt
import pytest

from heliograph.bus.contract.topics import DEFAULT_ROOT, TELEMETRY
from heliograph.cli.doctor.mosquitto import DROPPED, VERSION, counts, finding
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from tests.field.test_devices_outlive_agents import EDGE, stored
from tests.patience import HANGS

DEVICES, EACH = 100, 30


@pytest.mark.long
async def test_a_burst_while_the_agent_is_away_is_stored_or_counted_as_dropped(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    broker = await mosquitto("sys_interval 1")
    async with LocalCluster(tmp_path / "cluster", [EDGE], edge_brokers={EDGE: broker.url()}) as cluster:
        await cluster.wait_ready(HANGS)
        await cluster.kill(EDGE)

        async def power_up(device: int) -> None:
            topic = f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=EDGE, device=f'device-{device}')}"
            async with aiomqtt.Client("127.0.0.1", broker.port) as client:
                for n in range(EACH):
                    await client.publish(topic, b'{"n":%d}' % n, qos=1, timeout=HANGS)

        await asyncio.gather(*map(power_up, range(DEVICES)))
        await cluster.start_agent(EDGE)
        await cluster.wait_ready(HANGS)
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            last = f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=EDGE, device='last')}"
            await client.publish(last, b'{"n":0}', qos=1, timeout=HANGS)
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            found = await stored(client, {("last", 0)})
        there = sum(found.values()) - 1
        assert there == len(found) - 1 < DEVICES * EACH, "mosquitto as packaged has dropped nothing: the test is void"
        async with asyncio.timeout(HANGS):
            while int((said := await counts(broker.url(), World())).get(DROPPED, "0")) < DEVICES * EACH - there:
                pass  # it counts anew each second
        assert int(said[DROPPED]) == DEVICES * EACH - there
        print(f"{DEVICES * EACH} acknowledged, {there} stored, {said[DROPPED]} dropped by {said[VERSION]}, as it says")
        told = finding("mqtt://node", said)
        assert told is not None and told.level == "warning" and "max_queued_messages 100000" in told.mend


async def test_a_quiet_mosquitto_is_good_and_other_brokers_are_passed_over(
    mosquitto: Callable[..., Awaitable[Mosquitto]],
) -> None:
    said = await counts((await mosquitto()).url(), World())
    told = finding("mqtt://node", said)
    assert told is not None and told.level == "good"
    assert finding("mqtt://node", {}) is None
    assert finding("mqtt://node", {VERSION: "other 1", DROPPED: "5"}) is None
    assert finding("mqtt://node", {VERSION: "mosquitto version 2", DROPPED: "many"}) is None
