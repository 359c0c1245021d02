"""A cluster whose edges take what gateways publish: zigbee2mqtt, Tasmota, Sparkplug and others, by the presets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.topics import TELEMETRY
from heliograph.bus.transport import Message
from heliograph.client import AsyncClient
from heliograph.edge_agent.devices.presets import PRESETS
from heliograph.local.cluster import LocalCluster
from heliograph.local.mosquitto import Mosquitto
from tests.conftest import need_mosquitto
from tests.field.plain_mqtt import PlainMqtt
from tests.patience import HANGS

PROBE = "probe"
AT_MOSQUITTO, AT_EMBEDDED = "edge-1", "edge-2"


def presets(directory: Path) -> Path:
    """Write a mapping with all presets, and return its file."""
    file = directory / "devices.toml"
    file.write_text("\n".join(f'[[devices]]\npreset = "{name}"' for name in PRESETS))
    return file


def without_hash(device: str) -> str:
    return re.sub("-[0-9a-f]{12}$", "-#", device)


def described(device: str, event: Event) -> str:
    """Return the device, without its hash, and the event that its type names."""
    return f"{without_hash(device)} {event.type.removeprefix(TELEMETRY.type).removeprefix('.')}".strip()


@dataclass
class House:
    """The devices of ``edge-1`` have a mosquitto, those of ``edge-2`` the embedded broker.

    Attributes:
        ports: of the nodes' brokers.
    """

    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    _gateways: int = 0
    _seen: int = 0

    async def __aenter__(self) -> House:
        need_mosquitto()
        self._open = AsyncExitStack()
        node = await self.mosquitto("node")
        self.cluster = LocalCluster(
            self.directory / "cluster", [AT_MOSQUITTO, AT_EMBEDDED], edge_brokers={AT_MOSQUITTO: node.url()},
            devices_map=presets(self.directory),
        )  # fmt: skip
        await self._open.enter_async_context(self.cluster)
        self.client = await self._open.enter_async_context(AsyncClient(self.cluster.server, timeout=HANGS))
        embedded = self.cluster.nodes[AT_EMBEDDED].broker
        assert embedded is not None
        self.ports = {AT_MOSQUITTO: node.port, AT_EMBEDDED: embedded.mqtt_port}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def mosquitto(self, name: str, *settings: str) -> Mosquitto:
        """Start a mosquitto, which ends with the house."""
        one = Mosquitto(self.directory / name, ("set_tcp_nodelay true", *settings))
        await one.start()
        self._open.push_async_callback(one.kill)
        return one

    async def stored_of(
        self, edge: str, topics: Sequence[str], *, kept: int, through: int = 0,
        bodies: Mapping[str, bytes] | None = None, retain: bool = False,
    ) -> list[tuple[str, Event]]:  # fmt: skip
        """Publish a message to each topic; return device and event of each that the cloud then has, in its order.

        Args:
            kept: how many the cloud gets; one more, or one twice, is returned too.
            through: port of another broker than the node's, which has a bridge to it.
            bodies: what is published to some topics; the others get a number.
        """
        self._gateways += 1
        bodies = bodies or {}
        messages = [(topic, bodies.get(topic) or json.dumps({"n": number}).encode())
                    for number, topic in enumerate(topics)]  # fmt: skip
        pattern = TELEMETRY.filter(edge=edge)
        async with asyncio.timeout(HANGS), self.client.bus.consume(pattern, start=self._seen + 1) as stored:
            await self._publish(through or self.ports[edge], messages, retain)
            found: list[tuple[str, Event]] = []
            while len(found) < kept:
                found.append(await self._next(stored))
            end = f"end-{self._gateways}"
            await self._publish(self.ports[edge], [(f"heliograph/event/telemetry/{edge}/{end}", b"1")])
            while (each := await self._next(stored))[0] != end:
                found.append(each)
        return found

    async def await_way(self, edge: str, through: int) -> None:
        """Return once what is published at another broker is stored: its bridge is up. What comes before may be lost
        there, where its session is a clean one."""
        arrived = asyncio.Event()

        async def probe() -> None:
            while not arrived.is_set():
                await self._publish(through, [(f"tele/{PROBE}/SENSOR", b"1")])
                await self.cluster.world.sleep(0.1)

        pattern = TELEMETRY.at(edge=edge, device=PROBE)
        async with asyncio.timeout(HANGS), self.client.bus.consume(pattern, start=self._seen + 1) as stored:
            probing = asyncio.create_task(probe())
            self._seen = (await anext(stored)).sequence
            arrived.set()
            await probing

    async def _publish(self, port: int, messages: Sequence[tuple[str, bytes]], retain: bool = False) -> None:
        client = await PlainMqtt.by_tcp(port, 4096)
        await client.connect(f"gateway-{self._gateways}")
        for topic, body in messages:
            await client.publish(topic, body, qos=1, retain=retain)
        client.close()

    async def _next(self, stored: AsyncIterator[Message]) -> tuple[str, Event]:
        while True:
            message = await anext(stored)
            self._seen = message.sequence
            if (device := message.topic.rpartition("/")[2]) != PROBE:
                return device, decode(message.body, message.topic)
