"""A live cluster that takes hostile messages: real processes, nats-server, and mosquitto where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.mqtt.bus import MqttBus
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.failures import DEFECT
from heliograph.core.names import CLOUD
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from heliograph.local.mosquitto import Mosquitto, find_mosquitto
from heliograph.local.nats_server import Broker
from heliograph.simulations.input_fuzz.messages import Sent

ON_NATS, ON_MOSQUITTO, GUEST = "edge-1", "edge-2", "edge-3"
ANSWERS = 60.0
"""Seconds within which an honest request is answered and an honest event arrives; the machine may be loaded."""
_DEFECTS = ("Traceback (most recent call last)", DEFECT)
_TIDIED = ("jobs", "services", "models", "datasets")


class LiveCluster:
    """A context manager. ``send`` gives it hostile messages, ``check`` returns what is wrong."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = AsyncExitStack()
        self._lines = 0
        self._number = 0

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def send(self, messages: Sequence[Sent]) -> None:
        """Send messages, each at every place that it fits."""
        for each in messages:
            if each.where == "door":
                for door in self._doors:
                    await _publish_mqtt(door, each.topic, each)
            elif each.where == "node":
                for edge, node in self._nodes.items():
                    await _publish_mqtt(node, each.topic_on(edge), each)
            elif each.where == "edge":
                with contextlib.suppress(HeliographError, ValueError):
                    subject = self._guest.subjects.subject(each.topic_on(GUEST).decode(errors="replace"))
                    client = self._guest.connection.client
                    await self._guest.connection.guard(client.publish(subject, each.body, headers=dict(each.headers)))
            else:
                await _publish_raw(self._brokers[each.where], each)

    async def check(self) -> list[str]:
        """Return what hostile messages have done: ended processes, defects, honest requests without an answer."""
        found = [
            f"{name} ended with exit code {code}"
            for name in (COORDINATOR, *self._cluster.nodes)
            if (code := self._cluster.exit_code(name)) is not None
        ]
        if not found:
            found += await self._honest()
        return [*found, *self._defects()]

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        node_url, door_url = await self._mosquitto("node"), await self._mosquitto("door")
        self._log = self._directory / "log"
        edges = [ON_NATS, ON_MOSQUITTO] if node_url else [ON_NATS]
        self._cluster = await enter(
            LocalCluster(
                self._directory / "cluster", edges, edge_brokers={ON_MOSQUITTO: node_url} if node_url else {},
                guests=[GUEST], doors=(door_url,) if door_url else (), log=self._log,
            )
        )  # fmt: skip
        cluster = self._cluster
        on_nats = cluster.nodes[ON_NATS].broker
        assert on_nats is not None
        self._brokers = {"raw-door": cluster.broker, "raw-node": on_nats}
        self._doors = [await self._connected(url, "foreign") for url in filter(None, (cluster.door, door_url))]
        urls = {ON_NATS: on_nats.url(scheme="mqtt")} | ({ON_MOSQUITTO: node_url} if node_url else {})
        self._nodes = {edge: await self._connected(url, "devices") for edge, url in urls.items()}
        guest = await self._connected(cluster.agent_url(GUEST), f"agent-{GUEST}", inbox_of(GUEST))
        assert isinstance(guest, NatsBus)
        self._guest = guest
        self._client = await enter(AsyncClient(cluster.server, timeout=ANSWERS))
        self._devices = {edge: await self._connected(url, "honest") for edge, url in urls.items()}

    async def _mosquitto(self, name: str) -> str:
        """Return the URL of a started mosquitto; empty where it is not installed."""
        try:
            find_mosquitto()
        except HeliographError:
            return ""
        broker = Mosquitto(self._directory / name, ("set_tcp_nodelay true", "persistence false"))
        await broker.start()
        self._stack.push_async_callback(broker.kill)
        return broker.url()

    async def _connected(self, url: str, name: str, inbox: str = "") -> Bus:
        bus = await self._stack.enter_async_context(connect(url, name=name, inbox=inbox))
        await bus.link.wait_up(ANSWERS)
        return bus

    async def _honest(self) -> list[str]:
        """Ask, and send events, as honest clients and devices do."""
        self._number += 1
        found = []
        try:
            async with asyncio.timeout(ANSWERS):
                known = {each["metadata"]["name"] for each in await self._client.edges.list()}
                await self._tidy()
        except (HeliographError, TimeoutError) as error:
            return [f"an honest request was not answered: {error or type(error).__name__}"]
        if missing := {CLOUD, *self._nodes} - known:
            found.append(f"edges are not listed any more: {', '.join(sorted(missing))}")
        for edge in self._nodes:
            try:
                async with asyncio.timeout(ANSWERS):
                    await self._telemetry(edge)
            except (HeliographError, TimeoutError) as error:
                found.append(f"an honest event of {edge} did not arrive: {error or type(error).__name__}")
        return found

    async def _tidy(self) -> None:
        """Delete what hostile requests have created."""
        for plural in _TIDIED:
            resources = self._client.resources(plural)
            for each in await resources.list():
                with contextlib.suppress(HeliographError):  # a job may need the model
                    await resources.delete(each["metadata"]["name"])

    async def _telemetry(self, edge: str) -> None:
        event = {"honest": self._number}
        body = json.dumps(event).encode()
        address = topics.TELEMETRY.at(edge=edge, device="honest")
        async with self._client.bus.subscribe(address) as arrived:
            while True:
                with contextlib.suppress(HeliographError, TimeoutError):
                    await self._devices[edge].publish(address, body)
                    async with asyncio.timeout(ANSWERS / 10):  # the device repeats what a reset has lost
                        while decode((await anext(arrived)).body, address).data != event:
                            pass
                        return

    def _defects(self) -> list[str]:
        lines = self._log.read_text(errors="replace").splitlines()
        fresh, self._lines = lines[self._lines :], len(lines)
        return [
            "\n".join(fresh[max(0, at - 2) : at + 25])
            for at, line in enumerate(fresh)
            if any(each in line for each in _DEFECTS)
        ][:3]


async def _publish_mqtt(bus: Bus, topic: bytes, sent: Sent) -> None:
    """Publish on any topic, whatever the broker and the client library do with it."""
    assert isinstance(bus, MqttBus)
    with contextlib.suppress(HeliographError, ValueError, TimeoutError):
        await bus.link.wait_up(ANSWERS)
        text = f"{DEFAULT_ROOT}/{topic.decode(errors='replace')}"
        bus.connection.send(text, sent.body, sent.retain, None)


async def _publish_raw(broker: Broker, sent: Sent) -> None:
    """Publish on a subject of any bytes, over a connection of its own."""
    reader, writer = await asyncio.open_connection(broker.host, broker.port)
    try:
        subject = DEFAULT_ROOT.encode() + b"." + sent.topic_on(ON_NATS).replace(b"\r", b"").replace(b"\n", b"")
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nPUB %s %d\r\n%s\r\nPING\r\n'
                     % (subject, len(sent.body), sent.body))  # fmt: skip
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWERS):
                while (line := await reader.readline()) and line != b"PONG\r\n":
                    pass
    except OSError:
        return  # the broker ends a connection that breaks its protocol
    finally:
        writer.close()
