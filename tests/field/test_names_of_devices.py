"""Row 3: devices keep the names that they have: zigbee2mqtt's with spaces, Tasmota's with capitals, Sparkplug's, MAC
addresses. What no rule takes is counted and said once. What a broker does not let through is in docs/devices.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from heliograph.bus.contract.topics import STATUS
from heliograph.edge_agent.devices.mapping import DeviceMapping
from heliograph.edge_agent.devices.mapping_file import read_mapping
from heliograph.edge_agent.devices.topic_filters import takes
from tests.field.house import House, described, presets, without_hash
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


@pytest.mark.parametrize("topic", sorted({*LINES}))
def test_what_becomes_of_each_topic(topic: str, tmp_path: Path) -> None:
    mappings = (DeviceMapping("heliograph", EDGE), read_mapping(presets(tmp_path), EDGE))
    assert tuple(fate(each, topic) for each in mappings) == FATES[topic]


def fate(mapping: DeviceMapping, topic: str) -> str:
    if (placed := mapping.place(topic)) is not None:
        event = "" if placed.event == "telemetry" else f" {placed.event}"
        return without_hash(placed.device) + event
    if mapping.passes_over(topic):
        if not topic.startswith("heliograph/"):
            return "passed over"
        return NOT_ITS if "telemetry" in topic else OURS
    return COUNTED if any(takes(each, topic) for each in mapping.filters) else NOT_HEARD


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with House(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.mark.process
@pytest.mark.mosquitto
@pytest.mark.asyncio(loop_scope="module")
async def test_an_agent_at_a_mosquitto_stores_each_topic_once_or_counts_it(house: House) -> None:
    before = await unplaced(house)
    topics = [topic for topic in LINES if not topic.startswith(("$SYS", "heliograph/event/task", "heliograph/status"))]
    kept = [topic for topic in topics if FATES[topic][1] not in (COUNTED, NOT_ITS, NOT_HEARD, OURS, "passed over")]
    found = await house.stored_of(EDGE, topics, kept=len(kept))
    assert [event.subject for _, event in found] == [topic.removeprefix("heliograph/") for topic in kept]
    assert [described(device, event) for device, event in found] == [FATES[topic][1] for topic in kept]
    counted = [topic for topic in topics if FATES[topic][1] == COUNTED]
    async with asyncio.timeout(HANGS), house.client.bus.subscribe(STATUS.at(resource="edges", name=EDGE)) as changes:
        while (now := await unplaced(house)) < before + len(counted):
            await anext(changes)
    assert now == before + len(counted)
    said = [line for line in house.cluster.lines(EDGE) if "no rule takes what devices publish on" in line]
    assert len(said) == len(counted)  # they begin differently
    assert await house.stored_of(EDGE, counted, kept=0) == []
    assert [line for line in house.cluster.lines(EDGE) if "no rule takes what devices publish on" in line] == said


@pytest.mark.process
@pytest.mark.mosquitto
@pytest.mark.asyncio(loop_scope="module")
async def test_an_agent_at_the_embedded_broker_stores_what_its_broker_takes(house: House) -> None:
    topics = [topic for topic in LINES if FATES[topic][1] not in (COUNTED, NOT_ITS, NOT_HEARD, OURS, "passed over")]
    mine = [topic.replace("/edge-1/", "/edge-2/") for topic in topics if " " not in topic]
    found = await house.stored_of("edge-2", mine, kept=len(mine))
    subjects = [topic.removeprefix("heliograph/") for topic in mine]
    found.sort(key=lambda each: subjects.index(each[1].subject))  # nats-server keeps the order within one filter
    assert [event.subject for _, event in found] == subjects
    assert [described(device, event) for device, event in found] == [
        FATES[topic][1] for topic in topics if " " not in topic
    ]


@pytest.mark.process
@pytest.mark.mosquitto
@pytest.mark.asyncio(loop_scope="module")
async def test_what_an_earlier_mapping_took_is_asked_for_no_longer(house: House) -> None:
    """The session at the broker outlives the agent, and its subscriptions with it. Last: the mapping stays changed."""
    await house.cluster.kill(EDGE)
    (house.directory / "devices.toml").write_text('[[devices]]\ntopic = "tele/{device}/STATE"\ndevice = "{device}"')
    await house.cluster.start_agent(EDGE)
    await house.cluster.wait_ready()
    found = await house.stored_of(EDGE, ["zigbee2mqtt/lamp", "tele/a/STATE", "tele/a/SENSOR", f"{OWN}b"], kept=2)
    assert [device for device, _ in found] == ["a", "b"]
    assert not [line for line in house.cluster.lines(EDGE) if "no rule takes" in line]


async def unplaced(house: House) -> int:
    return int((await house.client.edges.get(EDGE))["status"].get("unplacedEvents", 0))
