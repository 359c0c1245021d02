"""Row 3: a mosquitto with a bridge, as its package has it, and a Sparkplug gateway. What the embedded broker does not
let through stands in docs/devices.md with the line of configuration; a version of it that does fails these tests."""

from __future__ import annotations

import asyncio
import getpass
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from heliograph.local.mosquitto import Mosquitto
from tests.field.house import AT_EMBEDDED, AT_MOSQUITTO, House, described
from tests.field.plain_mqtt import PlainMqtt
from tests.patience import HANGS

pytestmark = [pytest.mark.process, pytest.mark.mosquitto, pytest.mark.asyncio(loop_scope="module")]
EVENTS = 100
PAGE = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with House(tmp_path_factory.mktemp("house")) as house:
        yield house


async def bridged(house: House, name: str, edge: str, *more: str) -> Mosquitto:
    """Start a mosquitto with a bridge to a node's broker, in the lines of its manual; return it once the bridge is up:
    what is published while it connects comes in another order."""
    lines = (f"connection {name}", f"address 127.0.0.1:{house.ports[edge]}", "topic # out 1", *more)
    hall = await house.mosquitto(name, *lines)
    await house.await_way(edge, hall.port)
    return hall


@pytest.mark.parametrize("more", [(), ("bridge_protocol_version mqttv50",), ("cleansession true", "try_private false")])
async def test_behind_a_mosquittos_bridge_as_packaged_nothing_is_cut(house: House, more: tuple[str, ...]) -> None:
    hall = await bridged(house, f"hall-{len(''.join(more))}", AT_MOSQUITTO, *more)
    topics = ["zigbee2mqtt/lamp", "zigbee2mqtt/Living Room", "zigbee2mqtt/küche.temp"] * EVENTS
    found = await house.stored_of(AT_MOSQUITTO, topics, kept=len(topics), through=hall.port)
    numbers = [event.data["n"] for _, event in found]
    assert numbers == [*range(len(topics))]  # none lost, none twice, in order
    assert Counter(described(device, event) for device, event in found) == {
        "lamp": EVENTS, "living-room-#": EVENTS, "k-che-temp-#": EVENTS,
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("more", "again"), [((), 10), (("cleansession true",), 5)])
async def test_a_bridge_brings_what_is_retained_again(house: House, more: tuple[str, ...], again: int) -> None:
    """The node's broker passes it on as new: no agent can tell. The page says what to do."""
    assert "`cleansession true` halves it" in PAGE
    place = house.directory / f"retained-{again}"
    place.mkdir()
    kept = ("persistence true", f"persistence_location {place}/", f"user {getpass.getuser()}", "restart_timeout 1")
    hall = await bridged(house, f"retaining-{again}", AT_MOSQUITTO, *more, *kept)
    states = [f"zigbee2mqtt/{again}-{number}/availability" for number in range(5)]
    assert len(await house.stored_of(AT_MOSQUITTO, states, kept=5, through=hall.port, retain=True)) == 5
    assert hall.process is not None
    hall.process.terminate()
    await hall.process.wait()
    await hall.start()
    found = await house.stored_of(AT_MOSQUITTO, [], kept=again)
    assert len(found) == again


async def test_three_lines_let_a_bridge_to_the_embedded_broker_through(house: House) -> None:
    lines = ("remote_clientid hall", "try_private false", "notifications false")
    assert all(f"`{line.split()[0]}" in PAGE for line in lines)
    hall = await bridged(house, "hall", AT_EMBEDDED, *lines)
    topics = ["zigbee2mqtt/lamp", "tele/tasmota_1A2B/SENSOR"] * EVENTS
    found = await house.stored_of(AT_EMBEDDED, topics, kept=len(topics), through=hall.port)
    assert sorted(event.data["n"] for _, event in found) == [*range(len(topics))]  # none lost, none twice
    for first, device in enumerate(("lamp", "tasmota-1a2b-# sensor")):  # in order, within one filter
        numbers = [event.data["n"] for name, event in found if described(name, event) == device]
        assert numbers == [*range(first, len(topics), 2)]


@pytest.mark.parametrize("name", ["host.hall", "my gateway", "a*", "a>"])
async def test_the_embedded_broker_refuses_a_client_id_that_mosquitto_takes(house: House, name: str) -> None:
    async with asyncio.timeout(HANGS):
        client = await PlainMqtt.by_tcp(house.ports[AT_MOSQUITTO])
        await client.connect(name)
        client.close()
        client = await PlainMqtt.by_tcp(house.ports[AT_EMBEDDED])
        with pytest.raises(AssertionError, match=r"CONNACK b'\\x00\\x02'"):
            await client.connect(name)
        client.close()


@pytest.mark.parametrize("name", ["Living Room", "a\tb"])
async def test_the_embedded_broker_ends_the_connection_at_a_space(house: House, name: str) -> None:
    assert "A topic with a space" in PAGE
    async with asyncio.timeout(HANGS):
        client = await PlainMqtt.by_tcp(house.ports[AT_EMBEDDED])
        await client.connect("gateway")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.publish(f"zigbee2mqtt/{name}", b"1", qos=1)
        client.close()


async def test_a_sparkplug_gateways_messages_are_kept_as_they_come(house: House) -> None:
    births = {f"spBv1.0/Plant/{kind}": bytes([8, *range(128, 256), len(kind)]) for kind in (
        "NBIRTH/gw", "DBIRTH/gw/press", "DDATA/gw/press", "NDATA/gw", "DDEATH/gw/press", "NDEATH/gw")}  # fmt: skip
    commands = {"spBv1.0/Plant/NCMD/gw": b"\x08\x01", "spBv1.0/Plant/DCMD/gw/press": b"\x08\x02"}
    found = await house.stored_of(AT_MOSQUITTO, [*births, *commands], kept=len(births), bodies=births | commands)
    assert [event.data for _, event in found] == [*births.values()]
    assert {event.content_type for _, event in found} == {"application/x-protobuf"}
    assert [described(device, event) for device, event in found] == [
        "plant-gw-# nbirth", "plant-gw-press-# dbirth", "plant-gw-press-# ddata", "plant-gw-# ndata",
        "plant-gw-press-# ddeath", "plant-gw-# ndeath",
    ]  # fmt: skip
    assert len({device for device, _ in found}) == 2
