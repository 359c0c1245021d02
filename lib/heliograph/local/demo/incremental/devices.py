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
from heliograph.local.demo.incremental.documents import NAME

Array = np.ndarray[Any, Any]
_AGAIN = "again-"
PER_SECOND = 50.0
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
        sent: set when every image has been sent once.
        done: the devices ask again what they have asked, which counts for nothing, until it is set.
        running: cleared while a round trains: the demo presses a day into a minute, and a round is short beside a day.
    """

    def __init__(
        self, cluster: LocalCluster, edges: list[str], images: Array, labels: Array, world: World
    ) -> None:
        self.counted = Counted()
        self.running = asyncio.Event()
        self.sent = asyncio.Event()
        self.done = asyncio.Event()
        self._sending = len(edges)
        self._cluster = cluster
        self._edges = edges
        self._images = images
        self._labels = labels
        self._world = world

    async def run(self) -> None:
        """Send every image once, by the edges in turn, and some again until ``done`` is set."""
        self.running.set()
        async with asyncio.TaskGroup() as group:
            for place, edge in enumerate(self._edges):
                group.create_task(self._run_one(edge, range(place, len(self._images), len(self._edges))))

    async def repeat(self) -> None:
        """Send images of the stream's end again, uncounted, until cancelled: a candidate that is on trial when the
        stream ends needs requests still."""
        async with asyncio.TaskGroup() as group:
            for edge in self._edges:
                group.create_task(self._repeat_on(edge))

    async def _repeat_on(self, edge: str) -> None:
        async with self._device(edge) as device:
            while True:
                for number in range(len(self._images) // 2, len(self._images)):
                    await self._publish(device, number, "again")
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
            self._sending -= 1
            if not self._sending:
                self.sent.set()
            again = 0
            while not self.done.is_set():  # a candidate that is on trial has to be asked something
                body = {"input": self._images[numbers[again % len(numbers)]].tolist(),
                        "reply_to": f"{DEFAULT_ROOT}/reply/camera/{_AGAIN}{again}"}  # fmt: skip
                again += 1
                await device.publish(topic, json.dumps(body))
                await self._world.sleep(len(self._edges) / PER_SECOND)
            reading.cancel()

    async def _read(self, device: aiomqtt.Client, edge: str) -> None:
        versions = self.counted.versions.setdefault(edge, Counter())
        async for message in device.messages:
            answer = json.loads(bytes(message.payload))
            if "error" in answer:
                self.counted.errors += 1
                continue
            request = str(message.topic).rsplit("/", 1)[1]
            if request.startswith(_AGAIN):
                continue
            number = int(request)
            self.counted.answered += 1
            self.counted.right += answer["result"] == int(self._labels[number])
            self.counted.hard += bool(answer["degraded"])
            versions[answer.get("model", "")] += 1
