"""Row 3: devices keep the names that they have: zigbee2mqtt's with spaces, Tasmota's with capitals, Sparkplug's, MAC
addresses. What no rule takes is counted and said once. What a broker does not let through is in docs/devices.md."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.topics import TELEMETRY
from heliograph.client import AsyncClient
from heliograph.edge_agent.devices.mapping import DeviceMapping
from heliograph.edge_agent.devices.mapping_file import read_mapping
from heliograph.edge_agent.devices.presets import PRESETS
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from tests.conftest import need_mosquitto
from tests.field.plain_mqtt import PlainMqtt
from tests.patience import HANGS

LINES = (Path(__file__).parents[1] / "data" / "field" / "devices" / "topics.txt").read_text().splitlines()
EDGE, OWN = "edge-1", "heliograph/event/telemetry/edge-1/"
COUNTED, NOT_ITS, OURS, NOT_HEARD = "counted", "another edge's or none's", "Heliograph's own", "no filter brings it"
FATES: dict[str, tuple[str, str]] = {
    # below the node's own address: the name, with a hash where it is no label
    f"{OWN}thermo": ("thermo", "thermo"),
    f"{OWN}0x00158d00022d2d2c": ("0x00158d00022d2d2c", "0x00158d00022d2d2c"),
    f"{OWN}Living_Room": ("living-room-#", "living-room-#"),
    f"{OWN}living_room": ("living-room-#", "living-room-#"),
    f"{OWN}Living Room": ("living-room-#", "living-room-#"),
    f"{OWN}kitchen.temp": ("kitchen-temp-#", "kitchen-temp-#"),
    f"{OWN}küche": ("k-che-#", "k-che-#"),
    OWN + "a" * 64: (f"{'a' * 50}-#", f"{'a' * 50}-#"),
    OWN + "a" * 63: ("a" * 63, "a" * 63),
    f"{OWN}sensor-": ("sensor-#", "sensor-#"),
    f"{OWN}-sensor": ("sensor-#", "sensor-#"),
    f"{OWN}24:6F:28:AA:BB:CC": ("24-6f-28-aa-bb-cc-#", "24-6f-28-aa-bb-cc-#"),
    f"{OWN}$sys": ("sys-#", "sys-#"),
    f"{OWN}温度": ("device-#", "device-#"),
    f"{OWN}dev@home": ("dev-home-#", "dev-home-#"),
    # of several levels, or of an empty one: which of them is the device, a rule has to say
    f"{OWN}living-room/0x00158d": (COUNTED, COUNTED),
    f"{OWN}thermo/temperature": (COUNTED, COUNTED),
    f"{OWN}thermo/": (COUNTED, COUNTED),
    OWN: (COUNTED, COUNTED),
    f"{OWN}a//b": (COUNTED, COUNTED),
    # addresses of others: 'heliograph device topics' shows them
    "heliograph/event/telemetry/Edge-1/thermo": (NOT_ITS, NOT_ITS),
    "heliograph/event/telemetry/edge-2/thermo": (NOT_ITS, NOT_ITS),
    "heliograph/event/telemetry/thermo": (NOT_ITS, NOT_ITS),
    "heliograph/telemetry/edge-1/thermo": (NOT_ITS, NOT_ITS),
    "/heliograph/event/telemetry/edge-1/thermo": (NOT_HEARD, NOT_HEARD),
    "Heliograph/event/telemetry/edge-1/thermo": (NOT_HEARD, NOT_HEARD),
    # foreign topics: heard once the file names them
    "zigbee2mqtt/Living Room": (NOT_HEARD, "living-room-#"),
    "zigbee2mqtt/0x00158d/availability": (NOT_HEARD, "0x00158d availability"),
    "tele/tasmota_AABBCC/SENSOR": (NOT_HEARD, "tasmota-aabbcc-# sensor"),
    "homeassistant/sensor/x/config": (NOT_HEARD, "passed over"),
    "spBv1.0/Plant/DDATA/gw/dev": (NOT_HEARD, "plant-gw-dev-# ddata"),
    "$SYS/broker/x": (NOT_HEARD, NOT_HEARD),
    # what Heliograph itself says is never taken for a device
    "heliograph/status/edges/edge-1": (OURS, OURS),
    "heliograph/event/task/edge-1": (OURS, OURS),
    "heliograph/ack/thermo": (OURS, OURS),
}
"""Of each line of the file: what becomes of it without a mapping, and with all presets."""


def test_every_line_of_the_file_has_its_fate_here() -> None:
    assert {*LINES} == FATES.keys()


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("devices") / "devices.toml"
    file.write_text("\n".join(f'[[devices]]\npreset = "{name}"' for name in PRESETS))
    return file


@pytest.mark.parametrize("topic", sorted({*LINES}))
def test_what_becomes_of_each_topic(topic: str, presets: Path) -> None:
    for mapping, expected in zip(
        (DeviceMapping("heliograph", EDGE), read_mapping(presets, EDGE)), FATES[topic], strict=True
    ):
        assert fate(mapping, topic) == expected


def fate(mapping: DeviceMapping, topic: str) -> str:
    if (placed := mapping.place(topic)) is not None:
        event = "" if placed.event == "telemetry" else f" {placed.event}"
        return without_hash(placed.device) + event
    if mapping.passes_over(topic):
        if not topic.startswith("heliograph/"):
            return "passed over"
        return NOT_ITS if "telemetry" in topic else OURS
    from heliograph.edge_agent.devices.topic_filters import takes

    return COUNTED if any(takes(each, topic) for each in mapping.filters) else NOT_HEARD


def without_hash(device: str) -> str:
    return re.sub("-[0-9a-f]{12}$", "-#", device)


# with brokers and an agent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, presets: Path) -> AsyncIterator[Any]:
    """A cluster with the presets. The devices of ``edge-1`` have a mosquitto, those of ``edge-2`` the embedded one."""
    need_mosquitto()
    directory = tmp_path_factory.mktemp("house")
    broker = Mosquitto(directory / "mosquitto", ("set_tcp_nodelay true",))
    await broker.start()
    try:
        async with (
            LocalCluster(directory / "cluster", [EDGE, "edge-2"], edge_brokers={EDGE: broker.url()},
                         devices_map=presets) as cluster,
            AsyncClient(cluster.server, timeout=HANGS) as client,
        ):  # fmt: skip
            embedded = cluster.nodes["edge-2"].broker
            assert embedded is not None
            yield cluster, client, {EDGE: broker.port, "edge-2": embedded.mqtt_port}
    finally:
        await broker.kill()


async def publish(port: int, topics: list[str], device: str = "gateway", qos: int = 1) -> None:
    """Publish a numbered message to each topic."""
    async with asyncio.timeout(HANGS):
        client = await PlainMqtt.by_tcp(port, 4096)
        await client.connect(device)
        for number, topic in enumerate(topics):
            await client.publish(topic, json.dumps({"n": number, "by": device}).encode(), qos)
        client.close()


async def stored(house: Any, edge: str, by: str) -> list[tuple[str, Event]]:
    """Return the device and the event of each of a gateway's messages that the cloud has, up to its last."""
    _, client, ports = house
    await publish(ports[edge], [f"heliograph/event/telemetry/{edge}/end"], f"end-of-{by}")
    found = []
    async with asyncio.timeout(HANGS), client.bus.consume(TELEMETRY.filter(edge=edge)) as messages:
        async for message in messages:
            event = decode(message.body, message.topic)
            if event.data["by"] == f"end-of-{by}":
                return found
            if event.data["by"] == by:
                found.append((message.topic.rpartition("/")[2], event))
    raise AssertionError


@pytest.mark.mosquitto
@pytest.mark.asyncio(loop_scope="module")
async def test_each_topic_is_stored_once_or_counted_at_a_mosquitto(house: Any) -> None:
    cluster, client, ports = house
    before = await unplaced(client)
    topics = [topic for topic in LINES if not topic.startswith(("$SYS", "heliograph/event/task", "heliograph/status"))]
    await publish(ports[EDGE], topics)
    found = await stored(house, EDGE, "gateway")
    expected = [(number, topic, FATES[topic][1]) for number, topic in enumerate(topics)]
    assert [(event.data["n"], described(device, event)) for device, event in found] == [
        (number, fate) for number, _, fate in expected if fate not in (COUNTED, NOT_ITS, NOT_HEARD, OURS, "passed over")
    ]
    assert [event.subject for _, event in found] == [
        topics[event.data["n"]].removeprefix("heliograph/") for _, event in found
    ]
    counted = sum(fate == COUNTED for _, _, fate in expected)
    async with asyncio.timeout(HANGS):
        while (now := await unplaced(client)) - before < counted:
            await cluster.world.sleep(0.05)
    assert now - before == counted
    said = [line for line in cluster.lines(f"agent {EDGE}"[6:]) if "no rule takes what devices publish" in line]
    assert len(said) == 5  # one for each beginning


def described(device: str, event: Event) -> str:
    kind = event.type.removeprefix(TELEMETRY.type).removeprefix(".")
    return f"{without_hash(device)} {kind}".strip()


async def unplaced(client: AsyncClient) -> int:
    return int((await client.edges.get(EDGE))["status"].get("unplacedEvents", 0))
