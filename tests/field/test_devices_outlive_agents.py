"""Devices publish at QoS 1 while the agent is killed again and again: each acknowledged reading arrives, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import DEFAULT_ROOT, TELEMETRY
from heliograph.client import AsyncClient
from heliograph.core.mosquitto_limits import LINES
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EDGE, DEVICES, KILLS, BETWEEN = "edge-1", 20, 4, 800


class Devices:
    """Plain devices, each of which publishes a reading at QoS 1 once, and counts it when its broker acknowledges it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = False
        self.acknowledged = [0] * DEVICES
        self.counted = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(*map(self._publish, range(DEVICES)))

    async def reach(self, total: int) -> None:
        """Wait until so many readings are acknowledged."""
        async with asyncio.timeout(HANGS):
            while sum(self.acknowledged) < total:
                self.counted.clear()
                await self.counted.wait()

    def stop(self) -> None:
        self._stopped = True

    async def _publish(self, device: int) -> None:
        topic = f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=EDGE, device=f'device-{device}')}"
        async with aiomqtt.Client("127.0.0.1", self._port, identifier=f"device-{device}") as client:
            while not self._stopped:
                await client.publish(topic, b'{"n":%d}' % self.acknowledged[device], qos=1, timeout=HANGS)
                self.acknowledged[device] += 1
                self.counted.set()


async def stored(client: AsyncClient, expected: set[tuple[str, int]]) -> Counter[tuple[str, int]]:
    """Return how often each reading is in the cloud's stream, up to the last of those expected."""
    found: Counter[tuple[str, int]] = Counter()
    async with client.bus.consume(TELEMETRY.filter(edge=EDGE)) as messages, asyncio.timeout(HANGS):
        while not expected <= found.keys():
            message = await anext(messages)
            found[message.topic.rpartition("/")[2], decode(message.body).data["n"]] += 1
    return found


@pytest.mark.long
@pytest.mark.parametrize("kind", ["nats-server", "mosquitto"])
async def test_no_acknowledged_reading_is_lost_or_doubled_by_kills_of_the_agent(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Any]], kind: str
) -> None:
    brokers = {EDGE: (await mosquitto(*LINES)).url()} if kind == "mosquitto" else {}
    async with LocalCluster(tmp_path / "cluster", [EDGE], edge_brokers=brokers) as cluster:
        await cluster.wait_ready(HANGS)
        own = cluster.nodes[EDGE].broker
        devices = Devices(own.mqtt_port if own is not None else int(brokers[EDGE].rpartition(":")[2]))
        running = asyncio.create_task(devices.run())
        for _ in range(KILLS):
            await devices.reach(sum(devices.acknowledged) + BETWEEN)
            await cluster.kill(EDGE)
            await devices.reach(sum(devices.acknowledged) + BETWEEN // 4)
            await cluster.start_agent(EDGE)
            await cluster.wait_ready(HANGS)
        devices.stop()
        await running
        expected = {(f"device-{device}", n) for device, most in enumerate(devices.acknowledged) for n in range(most)}
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            last = TELEMETRY.at(edge=EDGE, device="last")
            found = await stored(client, expected)
            async with aiomqtt.Client("127.0.0.1", devices._port) as device:
                await device.publish(f"{DEFAULT_ROOT}/{last}", b'{"n":0}', qos=1, timeout=HANGS)
            found = await stored(client, {*expected, ("last", 0)})  # nothing is behind what was published last
    doubled = sum(found.values()) - len(found)
    print(f"{kind}: {KILLS} kills, {len(expected)} acknowledged, 0 lost, {doubled} doubled")
    assert doubled == 0
