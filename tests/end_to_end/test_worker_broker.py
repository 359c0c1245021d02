"""A node whose devices' broker lets everybody in, as KubeEdge's does: workers have one of the agent's own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.topics import ACK, TELEMETRY
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_commands import heliograph
from heliograph.local.mosquitto import Mosquitto
from tests.end_to_end.test_joint_inference import CLOUD, EASY, EDGE, HARD, Device, device_of, line_service, until_joint
from tests.patience import HANGS

pytestmark = pytest.mark.mosquitto


def with_own_broker(name: str) -> Sequence[str]:
    """Return how a component is started: the edge's agent with a broker of its own for workers."""
    return ["env", "HELIOGRAPH_WORKER_BROKER=own", *heliograph(name)] if name == "edge-1" else heliograph(name)


@dataclass
class Site:
    cluster: LocalCluster
    client: AsyncClient
    node: Mosquitto
    device: Device

    @property
    def broker(self) -> dict[str, Any]:
        """The configuration of the agent's own broker."""
        found: dict[str, Any] = json.loads((self.cluster.nodes["edge-1"].state / "broker" / "nats.conf").read_text())
        return found


@asynccontextmanager
async def site_on(node: Mosquitto, directory: Path) -> AsyncIterator[Site]:
    code = directory / "code"
    code.mkdir()
    (code / "edge.py").write_text(EDGE)
    (code / "cloud.py").write_text(CLOUD)
    cluster = LocalCluster(directory / "cluster", ["edge-1"], code=(code,), edge_brokers={"edge-1": node.url()},
                           program=with_own_broker)  # fmt: skip
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client, device_of(cluster) as device:
        for name in ("shallow", "deep"):
            await client.models.create({"kind": "Model", "metadata": {"name": name}})
        await client.resources("services").create(line_service())
        yield Site(cluster, client, node, device)


async def test_devices_are_served_by_workers_of_a_broker_that_they_do_not_reach(
    tmp_path: Path, mosquitto: Callable[[], Awaitable[Mosquitto]]
) -> None:
    node = await mosquitto()
    async with aiomqtt.Client("127.0.0.1", node.port) as listener:
        await listener.subscribe("#")
        seen: list[str] = []

        async def listen() -> None:
            async for message in listener.messages:
                seen.append(str(message.topic))

        listening = asyncio.create_task(listen())
        async with site_on(node, tmp_path) as site:
            await until_joint(site.device)  # what the edge is not sure of, the cloud answers
            assert (await site.device.of(EASY))["by"] == "edge"
            assert (await site.device.of(HARD))["by"] == "cloud"
            assert "unknown-service" in json.dumps(await site.device.ask_elsewhere("other", {"input": [[1.0]]}))
            with pytest.raises(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", site.broker["mqtt"]["port"]):
                    pass
        listening.cancel()
    words = {"/".join(topic.split("/")[1:2]) for topic in seen}
    assert words == {"inference", "reply"}  # no assignment, no worker's word
    assert not [topic for topic in seen if "/answer/" in topic]  # what the cloud tells workers stays among them


async def test_mqtt_5_requests_of_one_response_topic_get_their_own_correlation_data(
    tmp_path: Path, mosquitto: Callable[[], Awaitable[Mosquitto]]
) -> None:
    node = await mosquitto()
    version = aiomqtt.ProtocolVersion.V5
    async with site_on(node, tmp_path) as site, aiomqtt.Client("127.0.0.1", node.port, protocol=version) as camera:
        await until_joint(site.device)
        await camera.subscribe("heliograph/reply/camera/1")
        for number in range(20):
            asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            asked.ResponseTopic, asked.CorrelationData = "heliograph/reply/camera/1", b"%d" % number
            value = EASY if number % 2 else HARD
            body = json.dumps({"input": [[value] * 4] * 4})
            await camera.publish("heliograph/inference/line/request", body, properties=asked)
        answers: dict[int, str] = {}
        async with asyncio.timeout(HANGS):
            async for message in camera.messages:
                assert message.properties is not None
                answers[int(message.properties.CorrelationData)] = json.loads(message.payload)["by"]  # type: ignore[arg-type]
                if len(answers) == 20:
                    break
        assert {answers[number] for number in range(1, 20, 2)} == {"edge"}
        assert {answers[number] for number in range(0, 20, 2)} == {"cloud"}


async def test_a_devices_events_reach_the_cloud_and_are_acknowledged_also_after_the_broker_was_killed(
    tmp_path: Path, mosquitto: Callable[[], Awaitable[Mosquitto]]
) -> None:
    node = await mosquitto()
    async with site_on(node, tmp_path) as site, aiomqtt.Client("127.0.0.1", node.port) as meter:
        await meter.subscribe(f"heliograph/{ACK.at(producer='meter')}")

        async def sends(number: int) -> Any:
            """Send an event until it is acknowledged, as a device does; return what the cloud got."""
            event = Event(str(number), "edge-1/meter/life", TELEMETRY.type, {"n": number}, sequence=number)
            topic = TELEMETRY.at(edge="edge-1", device="meter")
            async with site.client.bus.subscribe(topic) as arrived, asyncio.timeout(HANGS):
                acks = aiter(meter.messages)
                while True:
                    await meter.publish(f"heliograph/{topic}", encode(event), qos=1)
                    try:
                        async with asyncio.timeout(2):
                            while decode((await anext(acks)).payload).data["sequence"] < number:  # type: ignore[arg-type]
                                pass
                            break
                    except TimeoutError:
                        continue
                return decode((await anext(arrived)).body).data

        assert await sends(1) == {"n": 1}
        [server] = [pid for pid in _children(site.cluster.pid("edge-1")) if "nats" in _command(pid)]
        os.kill(server, signal.SIGKILL)
        assert await sends(2) == {"n": 2}
        await until_joint(site.device)  # its worker has found the broker again


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in found.split()]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
