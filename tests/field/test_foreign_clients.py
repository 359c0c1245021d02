"""Row 12: devices and applications with clients that are not ours, in C and Python, by WebSocket, and as small as on a
microcontroller: no event is lost, none comes twice, and whoever logs in asks for a task and reads its status."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import pytest_asyncio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.conftest import need_mosquitto
from tests.field.foreign_clients import (
    EMBEDDED,
    MOSQUITTO,
    PASSWORD,
    USER,
    Foreign,
    assert_accepted,
    job,
    numbered,
    status_of,
)
from tests.field.plain_mqtt import PlainMqtt
from tests.patience import HANGS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]
NODES = pytest.mark.parametrize("edge", [EMBEDDED, pytest.param(MOSQUITTO, marks=pytest.mark.mosquitto)])
DOORS = pytest.mark.parametrize("door", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
NOTHING_LOST = (0, 0, True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def foreign(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Foreign]:
    async with Foreign(tmp_path_factory.mktemp("foreign")) as cluster:
        yield cluster


def port_of(foreign: Foreign, edge: str) -> int:
    if edge == MOSQUITTO:
        need_mosquitto()
    return foreign.tcp[edge]


def door_of(foreign: Foreign, door: str) -> tuple[int, str, str]:
    if door == "mosquitto":
        need_mosquitto()
        return foreign.mosquitto_door, USER, PASSWORD
    return foreign.door, *foreign.door_login


def libmosquitto(program: str) -> str:
    """Return the path of a program of mosquitto's clients, which are written with its library in C."""
    if (found := shutil.which(program)) is None:
        need_mosquitto()
        pytest.skip("mosquitto's clients are not installed")
    return found


@NODES
async def test_a_client_in_c_publishes_lines(foreign: Foreign, edge: str) -> None:
    port, program = port_of(foreign, edge), libmosquitto("mosquitto_pub")
    ran = await asyncio.create_subprocess_exec(
        program, "-p", str(port), "-q", "1", "-t", foreign.topic(edge, "in-c"), "-l", stdin=subprocess.PIPE
    )
    await ran.communicate(b"\n".join(numbered()) + b"\n")
    assert ran.returncode == 0
    assert await foreign.counted(edge, "in-c") == NOTHING_LOST


@DOORS
async def test_a_client_in_c_asks_for_a_task(foreign: Foreign, door: str, tmp_path: Path) -> None:
    port, user, password = door_of(foreign, door)
    for program in ("mosquitto_rr", "mosquitto_sub"):
        (tmp_path / program).write_text(f"-h 127.0.0.1\n-p {port}\n-u {user}\n-P {password}\n-q 1\n-V mqttv311\n")
    reply_to, name = f"heliograph/reply/{USER}/c", f"by-c-{door}"

    async def printed(program: str, *words: str) -> bytes:
        ran = await asyncio.create_subprocess_exec(
            libmosquitto(program), *words, env={"XDG_CONFIG_HOME": str(tmp_path)}, stdout=subprocess.PIPE
        )
        return (await ran.communicate())[0]

    async def message() -> tuple[str, bytes]:
        if asked:
            wait = ("-W", str(int(HANGS)))
            return reply_to, await printed("mosquitto_rr", "-t", "heliograph/request/jobs/create", "-e", reply_to,
                                           "-m", asked.pop(), *wait)  # fmt: skip
        while not (status := await printed("mosquitto_sub", "-t", status_of(name), "-C", "1", "-W", "2")):
            pass  # nats-server hands out what is retained some moments after it has taken it
        return status_of(name), status

    asked = [json.dumps({**job(name), "reply_to": reply_to})]
    async with asyncio.timeout(HANGS):
        await assert_accepted(name, reply_to, message)


def paho_client(version: int, name: str) -> paho.Client:
    return paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTProtocolVersion(version))


@pytest.mark.parametrize(
    ("edge", "version"),
    [(EMBEDDED, 4), *(pytest.param(MOSQUITTO, version, marks=pytest.mark.mosquitto) for version in (4, 5))],
)
async def test_paho_publishes(foreign: Foreign, edge: str, version: int) -> None:
    port, device = port_of(foreign, edge), f"paho-{version}"

    def publish() -> None:
        client = paho_client(version, device)
        client.connect("127.0.0.1", port)
        client.loop_start()
        for sent in [client.publish(foreign.topic(edge, device), body, 1) for body in numbered()]:
            sent.wait_for_publish(HANGS)
        client.disconnect()
        client.loop_stop()

    await asyncio.to_thread(publish)
    assert await foreign.counted(edge, device) == NOTHING_LOST


@pytest.mark.parametrize(
    ("door", "version"),
    [("embedded", 4), *(pytest.param("mosquitto", version, marks=pytest.mark.mosquitto) for version in (4, 5))],
)
async def test_paho_asks_for_a_task(foreign: Foreign, door: str, version: int) -> None:
    port, user, password = door_of(foreign, door)
    reply_to, name = f"heliograph/reply/{USER}/paho-{version}", f"by-paho-{door}-{version}"
    loop, came = asyncio.get_running_loop(), asyncio.Queue[tuple[str, bytes]]()
    client = paho_client(version, name)
    client.username_pw_set(user, password)
    client.on_message = lambda *more: loop.call_soon_threadsafe(came.put_nowait, (more[2].topic, more[2].payload))
    subscribed = asyncio.Event()
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
    await asyncio.to_thread(client.connect, "127.0.0.1", port)
    client.loop_start()
    try:
        async with asyncio.timeout(HANGS):
            client.subscribe([(reply_to, 1), (status_of(name), 1)])
            await subscribed.wait()
            asked, properties = job(name), None
            if version == 5:
                properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                properties.ResponseTopic = reply_to
            else:
                asked["reply_to"] = reply_to
            client.publish("heliograph/request/jobs/create", json.dumps(asked), 1, properties=properties)
            await assert_accepted(name, reply_to, came.get)
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)


@NODES
async def test_a_client_by_websocket_publishes(foreign: Foreign, edge: str) -> None:
    port_of(foreign, edge)
    async with asyncio.timeout(HANGS):
        client = await PlainMqtt.by_websocket(foreign.websocket[edge])
        await client.connect("by-websocket")
        for body in numbered():
            await client.publish(foreign.topic(edge, "by-websocket"), body, qos=1)
        client.close()
    assert await foreign.counted(edge, "by-websocket") == NOTHING_LOST


async def test_a_client_by_websocket_asks_for_a_task(foreign: Foreign) -> None:
    reply_to, name = f"heliograph/reply/{USER}/websocket", "by-websocket"
    async with asyncio.timeout(HANGS):
        client = await PlainMqtt.by_websocket(foreign.cluster.broker.websocket_port)
        await client.connect("by-websocket", *foreign.door_login)
        await client.subscribe(reply_to, qos=1)
        await client.subscribe(status_of(name), qos=1)
        body = json.dumps({**job(name), "reply_to": reply_to}).encode()
        await client.publish("heliograph/request/jobs/create", body, qos=1)
        await assert_accepted(name, reply_to, client.message)
        client.close()


@NODES
async def test_a_microcontroller_publishes_and_vanishes(foreign: Foreign, edge: str) -> None:
    """QoS 0, packets of 256 bytes, a keepalive that it does not keep, and no DISCONNECT, three times."""
    port, bodies = port_of(foreign, edge), numbered()
    async with asyncio.timeout(HANGS):
        for part in range(3):
            device = await PlainMqtt.by_tcp(port)
            await device.connect("DVES_AABBCC", keepalive=1)
            for body in bodies[part::3]:
                await device.publish(foreign.topic(edge, "small"), body)
            await device.subscribe("heliograph/ack/small")  # answered behind what was published
            device.close()
    lost, twice, _ = await foreign.counted(edge, "small")
    assert (lost, twice) == (0, 0)


@pytest.mark.mosquitto
async def test_a_microcontroller_asks_for_a_task_and_reads_a_reply_of_its_size(foreign: Foreign) -> None:
    """Its buffer holds neither a job nor a token: it asks at mosquitto's door, for what is short."""
    need_mosquitto()
    reply_to = f"heliograph/reply/{USER}/s"
    async with asyncio.timeout(HANGS):
        device = await PlainMqtt.by_tcp(foreign.mosquitto_door, buffer=512)
        await device.connect("DVES_AABBCC", USER, PASSWORD)
        await device.subscribe(reply_to)
        asked = {"name": "none", "reply_to": reply_to}
        await device.publish("heliograph/request/jobs/stop", json.dumps(asked).encode())
        topic, body = await device.message()
        device.close()
    assert topic == reply_to
    assert json.loads(body)["error"]["code"] == "not-found"
