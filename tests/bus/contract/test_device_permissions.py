"""What devices may publish beside Heliograph's own topics: what a mapping takes, and nothing that is not theirs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from heliograph.bus.contract.device_permissions import foreign_subjects
from heliograph.local.nats_server import Broker, User
from tests.field.plain_mqtt import PlainMqtt
from tests.patience import HANGS


@pytest.mark.parametrize(
    ("pattern", "subjects"),
    [
        ("zigbee2mqtt/#", ("zigbee2mqtt.>", "zigbee2mqtt")),
        ("tele/+/SENSOR", ("tele.*.SENSOR",)),
        ("spBv1.0/#", ("spBv1//0.>", "spBv1//0")),
        ("#", ()),
        ("+/x", ()),
        ("heliograph/#", ()),
        ("$SYS/#", ()),
        ("$MQTT/#", ()),
        ("a//b", ()),
        ("a/b c", ()),
        ("a/*", ()),
        ("a/>", ()),
    ],
)
def test_a_filter_widens_nothing_else(pattern: str, subjects: tuple[str, ...]) -> None:
    assert foreign_subjects([pattern]) == subjects


@pytest.mark.process
async def test_a_device_publishes_what_the_mapping_takes_and_no_more(
    tmp_path: Path
) -> None:
    node = Broker(tmp_path / "node", "node", (User("agent", "", "agent"),), foreign=("zigbee2mqtt/#", "spBv1.0/#"))
    await node.start()
    try:
        async with asyncio.timeout(HANGS):
            agent = await PlainMqtt.by_tcp(node.mqtt_port, 65_536)
            await agent.connect("agent", "agent", node.password("agent"))
            await agent.subscribe("#", qos=1)
            device = await PlainMqtt.by_tcp(node.mqtt_port)
            await device.connect("device")
            topics = ("zigbee2mqtt/lamp", "zigbee2mqtt/a.b/c", "tele/x/SENSOR", "spBv1.0/p/NDATA/n",
                      "heliograph/ack/device", "heliograph/event/telemetry/edge-1/end")  # fmt: skip
            for number, topic in enumerate(topics):
                await device.publish(topic, json.dumps(number).encode(), qos=1)
            heard = []
            while "heliograph/event/telemetry/edge-1/end" not in heard:
                heard.append((await agent.message())[0])
            for client in (agent, device):
                client.close()
    finally:
        await node.kill()
    assert heard == ["zigbee2mqtt/lamp", "zigbee2mqtt/a.b/c", "spBv1.0/p/NDATA/n",
                     "heliograph/event/telemetry/edge-1/end"]  # fmt: skip
