"""A cluster that clients of other people's making speak to, and what of their telemetry is stored, counted exactly."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import TELEMETRY
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto, find_mosquitto
from heliograph.local.nats_server import free_ports
from tests.field.plain_mqtt import PlainMqtt
from tests.patience import HANGS

USER, PASSWORD = "alice", "a-password-of-alice"
EVENTS = 200
EMBEDDED, MOSQUITTO = "edge-1", "edge-2"
"""Edges whose devices' broker is the embedded nats-server, and a mosquitto."""


@dataclass
class Foreign:
    """The cluster: each node's broker and the cloud's door, by TCP and by WebSocket.

    Attributes:
        tcp, websocket: ports of the nodes' brokers, by edge.
    """

    directory: Path
    origins: tuple[str, ...] = ()
    tcp: dict[str, int] = field(default_factory=dict)
    websocket: dict[str, int] = field(default_factory=dict)

    async def __aenter__(self) -> Foreign:
        self._open = AsyncExitStack()
        edges, brokers = [EMBEDDED], {}
        if has_mosquitto():
            (port,) = free_ports(1)
            node = Mosquitto(self.directory / "mosquitto", ("set_tcp_nodelay true", f"listener {port} 127.0.0.1",
                                                           "protocol websockets", "allow_anonymous true"))  # fmt: skip
            await node.start()
            self._open.push_async_callback(node.kill)
            edges.append(MOSQUITTO)
            brokers[MOSQUITTO] = node.url()
            self.tcp[MOSQUITTO], self.websocket[MOSQUITTO] = node.port, port
        self.cluster = LocalCluster(
            self.directory / "cluster", edges, edge_brokers=brokers, mosquitto=has_mosquitto(), websocket=True,
            websocket_origins=self.origins, logins={USER: PASSWORD},
        )  # fmt: skip
        embedded = self.cluster.nodes[EMBEDDED].broker
        assert embedded is not None
        embedded.websocket, embedded.websocket_origins = True, self.origins
        await self._open.enter_async_context(self.cluster)
        self.tcp[EMBEDDED], self.websocket[EMBEDDED] = embedded.mqtt_port, embedded.websocket_port
        self.client = await self._open.enter_async_context(AsyncClient(self.cluster.server, timeout=HANGS))
        await self.client.models.create({"kind": "Model", "metadata": {"name": "foreign"}})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    @property
    def door(self) -> int:
        """Port of the embedded broker's MQTT door."""
        return self.cluster.broker.mqtt_port

    @property
    def door_login(self) -> tuple[str, str]:
        return USER, self.cluster.broker.password(USER)

    @property
    def mosquitto_door(self) -> int:
        """Port of mosquitto's door, which knows ``PASSWORD``."""
        assert self.cluster.mosquitto is not None
        return self.cluster.mosquitto.broker.port

    def topic(self, edge: str, device: str) -> str:
        return f"heliograph/{TELEMETRY.at(edge=edge, device=device)}"

    async def counted(self, edge: str, device: str, events: int = EVENTS) -> tuple[int, int, bool]:
        """Return how many of a device's numbered events were lost, how many came twice, and whether their order is that
        in which they were sent."""
        end = await PlainMqtt.by_tcp(self.tcp[edge])
        await end.connect(f"end-{device}")
        await end.publish(self.topic(edge, device), b'{"n": "end"}', qos=1)
        found: list[int] = []
        pattern = TELEMETRY.at(edge=edge, device=device)
        async with asyncio.timeout(HANGS), self.client.bus.consume(pattern) as messages:
            async for message in messages:
                data = decode(message.body, message.topic).data
                if data == {"n": "end"}:
                    break
                found.append(data["n"])
        end.close()
        times = Counter(found)
        lost = sum(number not in times for number in range(events))
        return lost, sum(times.values()) - len(times), found == sorted(found)


def has_mosquitto() -> bool:
    try:
        return bool(find_mosquitto())
    except HeliographError:
        return False


def job(name: str) -> dict[str, Any]:
    """Return a task that waits for an edge that there is not: it is accepted, and its status is Pending."""
    return {"apiVersion": "edgeai.io/v1alpha1", "kind": "FederatedTask", "metadata": {"name": name}, "spec": {
        "aggregationWorker": {"model": {"name": "foreign"}, "workerSpec": {"aggregationAlgorithm": "FedAvg"}},
        "trainingWorkers": [{"name": "train", "workerSpec": {
            "dataset": {"name": "nowhere"}, "trainScriptBootFile": "train.py", "frameworkType": "numpy"}}],
        "participants": {"all": True}, "rounds": 1}}  # fmt: skip


def numbered(events: int = EVENTS) -> list[bytes]:
    return [json.dumps({"n": number}).encode() for number in range(events)]


async def assert_accepted(name: str, reply_to: str, message: Callable[[], Awaitable[tuple[str, bytes]]]) -> None:
    """Assert what whoever asks for a task reads: that it is accepted, and that it waits. A status may come again."""
    found: dict[str, Any] = {}
    while found.keys() != {reply_to, status_of(name)}:
        topic, body = await message()
        found[topic] = json.loads(body)
    reply, status = found[reply_to], found[status_of(name)]["data"]
    assert reply["ok"], reply
    assert reply["result"]["metadata"]["name"] == name
    assert (status["kind"], status["status"]["phase"]) == ("FederatedTask", "Pending"), status


def status_of(name: str) -> str:
    """Return the topic of a task's status."""
    return f"heliograph/status/jobs/{name}"
