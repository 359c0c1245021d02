"""The devices of the demo: each sends images to its node's broker, as any MQTT client can, and reads the answers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
import numpy as np

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.topics import DEFAULT_ROOT, INFERENCE_REQUEST, REPLY
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.demo.incremental.documents import NAME, NEW_SAMPLES

Array = np.ndarray[Any, Any]
PER_SECOND = 75.0
"""Images of all devices together."""


@dataclass
class Counted:
    """What the devices have seen.

    Attributes:
        sent, answered, right, hard, errors: numbers of images.
        versions: edge to the digest of the version of its newest answer that is no candidate's.
    """

    sent: int = 0
    answered: int = 0
    right: int = 0
    hard: int = 0
    errors: int = 0
    versions: dict[str, Counter[str]] = field(default_factory=dict)


class Devices:
    """A device on each edge.

    Attributes:
        running: cleared while a round is under way: the demo presses a day into a minute, and a round is short beside
            a day.
        on_trial: set while a candidate needs requests; earlier images are sent again then.
    """

    def __init__(
        self, cluster: LocalCluster, edges: list[str], images: Array, labels: Array, world: World
    ) -> None:
        self.counted = Counted()
        self.running = asyncio.Event()
        self.on_trial = asyncio.Event()
        self._cluster = cluster
        self._edges = edges
        self._images = images
        self._labels = labels
        self._world = world
        self._most_hard = NEW_SAMPLES

    def allow(self, hard: int) -> None:
        """Go on until so many further images are hard: the next round is due then, and what comes before it has begun
        would be labelled for nothing."""
        self._most_hard = self.counted.hard + hard
        self.running.set()

    async def run(self) -> None:
        """Send every image once, by the edges in turn."""
        self.running.set()
        async with asyncio.TaskGroup() as group:
            for place, edge in enumerate(self._edges):
                group.create_task(self._run_one(edge, range(place, len(self._images), len(self._edges))))

    async def repeat(self) -> None:
        """Send images that have been sent before, uncounted, while a candidate is on trial; until cancelled."""
        async with asyncio.TaskGroup() as group:
            for edge in self._edges:
                group.create_task(self._repeat_on(edge))

    async def _repeat_on(self, edge: str) -> None:
        number = 0
        async with self._device(edge) as device:
            while True:
                await self.on_trial.wait()
                await self._publish(device, number % max(self.counted.sent, 1), "again")
                number += 1
                await self._world.sleep(len(self._edges) / PER_SECOND)

    def _device(self, edge: str) -> aiomqtt.Client:
        node = self._cluster.nodes[edge]
        url = ConnectionUrl.parse(node.broker.url(scheme="mqtt") if node.broker is not None else node.external_broker)
        return aiomqtt.Client(url.host, url.port)

    async def _publish(self, device: aiomqtt.Client, number: int, client: str) -> None:
        reply = f"{DEFAULT_ROOT}/{REPLY.at(client=client, id=str(number))}"
        body = {"input": self._images[number].tolist(), "reply_to": reply}
        await device.publish(f"{DEFAULT_ROOT}/{INFERENCE_REQUEST.at(service=NAME)}", json.dumps(body))

    async def _run_one(self, edge: str, numbers: range) -> None:
        async with self._device(edge) as device:
            await device.subscribe(f"{DEFAULT_ROOT}/{REPLY.filter(client='camera')}")
            reading = asyncio.create_task(self._read(device, edge))
            for number in numbers:
                await self.running.wait()
                self.counted.sent += 1
                await self._publish(device, number, "camera")
                await self._world.sleep(len(self._edges) / PER_SECOND)
            async with asyncio.timeout(5):
                while self.counted.answered + self.counted.errors < self.counted.sent:
                    await self._world.sleep(0.05)
            reading.cancel()

    async def _read(self, device: aiomqtt.Client, edge: str) -> None:
        versions = self.counted.versions.setdefault(edge, Counter())
        async for message in device.messages:
            answer = json.loads(bytes(message.payload))
            if "error" in answer:
                self.counted.errors += 1
                continue
            number = int(str(message.topic).rsplit("/", 1)[1])
            self.counted.answered += 1
            self.counted.right += answer["result"] == int(self._labels[number])
            self.counted.hard += bool(answer["degraded"])
            if self.counted.hard >= self._most_hard:
                self.running.clear()
            versions[answer.get("model", "")] += 1
