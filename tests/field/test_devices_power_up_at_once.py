"""A thousand devices that power up at the same moment, as after a power cut: what their brokers acknowledge is stored
once, or counted as dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heliograph.bus.contract.topics import DEFAULT_ROOT, TELEMETRY
from heliograph.cli.doctor.mosquitto import DROPPED, counts, finding
from heliograph.client import AsyncClient
from heliograph.core.mosquitto_limits import LINES
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from tests.field.plain_mqtt import PlainMqtt
from tests.field.test_devices_outlive_agents import EDGE, stored
from tests.patience import HANGS

DEVICES, EACH = 1000, 5
AS_PACKAGED = ("sys_interval 1",)


async def power_up(port: int, device: int) -> int:
    """Publish readings at QoS 1, one after the other; return how many the broker has acknowledged."""
    topic = f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=EDGE, device=f'device-{device}')}"
    client = await PlainMqtt.by_tcp(port)
    await client.connect(f"device-{device}")
    for n in range(EACH):
        await client.publish(topic, b'{"n":%d}' % n, qos=1)
    client.close()
    return EACH


@pytest.mark.long
@pytest.mark.parametrize("agent", ["there", "away"])
@pytest.mark.parametrize("kind", ["nats-server", "mosquitto with our lines", "mosquitto as packaged"])
async def test_what_a_thousand_devices_publish_at_once_is_stored_once_or_shown_as_dropped(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Mosquitto]], kind: str, agent: str
) -> None:
    node = None
    if kind != "nats-server":
        node = await mosquitto(*(AS_PACKAGED if kind == "mosquitto as packaged" else (*LINES, *AS_PACKAGED)))
    brokers = {EDGE: node.url()} if node is not None else {}
    async with LocalCluster(tmp_path / "cluster", [EDGE], edge_brokers=brokers) as cluster:
        await cluster.wait_ready(HANGS)
        embedded = cluster.nodes[EDGE].broker
        port = node.port if node is not None else embedded.mqtt_port if embedded is not None else 0
        if agent == "away":
            await cluster.kill(EDGE)
        async with asyncio.timeout(HANGS):
            acknowledged = sum(await asyncio.gather(*(power_up(port, device) for device in range(DEVICES))))
        assert acknowledged == DEVICES * EACH
        if agent == "away":
            await cluster.start_agent(EDGE)
            await cluster.wait_ready(HANGS)
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            if kind != "mosquitto as packaged":
                await stored(client, {(f"device-{device}", n) for device in range(DEVICES) for n in range(EACH)})
            last = await PlainMqtt.by_tcp(port)
            await last.connect("last")
            await last.publish(f"{DEFAULT_ROOT}/{TELEMETRY.at(edge=EDGE, device='last')}", b'{"n":0}', qos=1)
            found = await stored(client, {("last", 0)})
            last.close()
        there, doubled = len(found) - 1, sum(found.values()) - len(found)
        lost = acknowledged - there
        if node is not None:
            async with asyncio.timeout(HANGS):
                while int((said := await counts(node.url(), World())).get(DROPPED, "-1")) != lost:
                    pass  # it counts anew each second
            told = finding("mqtt://node", said)
            assert told is not None and told.level == ("warning" if lost else "good")
        print(f"{kind}, agent {agent}: {acknowledged} acknowledged, {there} stored, {lost} lost, {doubled} doubled")
        assert doubled == 0
        assert lost == 0 or kind == "mosquitto as packaged"
