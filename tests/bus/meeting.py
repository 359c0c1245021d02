"""The meeting point of a test's clients: a broker of some kind, or a hub in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import Unreachable
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.world import World
from tests.patience import HANGS

PATIENCE = HANGS
EVENT = "event/telemetry/edge-1/camera"


class Running(Protocol):
    pid: int


class Server(Protocol):
    @property
    def process(self) -> Running | None: ...

    async def start(self) -> None: ...
    async def kill(self) -> None: ...


@dataclass
class Meeting:
    """The meeting point of a test's clients. ``server`` is None in memory, where the links are cut instead."""

    url: str
    server: Server | None

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]

    @asynccontextmanager
    async def clients(self, count: int = 1) -> AsyncIterator[list[Bus]]:
        async with AsyncExitStack() as stack:
            buses = [await stack.enter_async_context(connect(self.url, name=f"client-{n}")) for n in range(count)]
            for bus in buses:
                await bus.link.wait_up(PATIENCE)
            async with asyncio.timeout(PATIENCE):  # the servers of a cluster elect first who leads
                await retry_until_reachable(buses[0].prepare, World(), print)
            yield buses

    async def cut(self, *buses: Bus) -> None:
        """Kill the broker like a power failure; return when every client has noticed."""
        if self.server is None:
            for bus in buses:
                bus.link.set(False)
        else:
            await self.server.kill()
        for bus in buses:
            await asyncio.wait_for(bus.link.wait_down(), PATIENCE)

    async def mend(self, *buses: Bus) -> None:
        if self.server is None:
            for bus in buses:
                bus.link.set(True)
        else:
            await self.server.start()
        for bus in buses:
            await bus.link.wait_up(PATIENCE)


NATS, MQTT, MOSQUITTO, MEMORY = "nats", "mqtt-on-nats", "mosquitto", "memory"
NATS_CLUSTER, MOSQUITTO_IMAGE, EMQX_IMAGE = IN_CONTAINERS = "nats-cluster-image", "mosquitto-image", "emqx-image"
"""Brokers that run in containers: they are the matrix of ``make matrix``."""
with_mosquitto = pytest.param(MOSQUITTO, marks=pytest.mark.mosquitto)
cluster_image, *mqtt_images = [pytest.param(kind, marks=pytest.mark.matrix) for kind in IN_CONTAINERS]
everywhere = pytest.mark.parametrize("kind", [NATS, MQTT, with_mosquitto, MEMORY, cluster_image, *mqtt_images])
where_values_are_retained = pytest.mark.parametrize("kind", [MQTT, with_mosquitto, MEMORY, *mqtt_images])
where_events_are_stored = pytest.mark.parametrize("kind", [NATS, MEMORY, cluster_image])
on_nats = pytest.mark.parametrize("kind", [NATS])


async def following(messages: AsyncIterator[Message]) -> Message:
    """Return the next message; fail the test if none comes."""
    async with asyncio.timeout(PATIENCE):
        return await anext(messages)


async def until_refused(bus: Bus) -> None:
    """Return once the broker has refused the login of ``bus``, which goes on trying."""
    async with asyncio.timeout(PATIENCE):
        while not bus.link.refused:
            await asyncio.sleep(0.01)  # the link tells of changes only


async def retained_value(bus: Bus, topic: str, body: bytes | None = None) -> Message:
    """Return what the broker gives to whoever subscribes to ``topic``, once it is ``body``: nats-server gives a value
    some time after it has acknowledged it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(TimeoutError):
                async with bus.subscribe(topic) as values, asyncio.timeout(0.1):
                    value = await anext(values)
                    if value.retained and body in (None, value.body):
                        return value


def answer_address(message: Message) -> str:
    """Return the reply address of a request; MQTT 3.1.1 carries it only inside the document."""
    return message.reply_to or json.loads(message.body)["reply_to"].removeprefix(f"{DEFAULT_ROOT}/")


@asynccontextmanager
async def answering(bus: Bus, pattern: str = "request/+/+") -> AsyncIterator[None]:
    """Answer each request with its topic and its number."""

    async def answer(requests: AsyncIterator[Message]) -> None:
        async for request in requests:
            body = json.dumps({"topic": request.topic, "n": json.loads(request.body)["n"]}).encode()
            # the broker may be gone after it delivered the answer and before it acknowledged it
            with contextlib.suppress(Unreachable):
                await bus.publish(answer_address(request), body, correlation=request.correlation)

    async with bus.subscribe(pattern) as requests:
        running = asyncio.create_task(answer(requests))
        yield
        running.cancel()


async def frozen(process: Running | None) -> None:
    """Stop a process, so that it looks unplugged; return when all its threads have stopped."""
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    # the kernel reports a child as stopped once its last thread is; WNOWAIT leaves its end to asyncio
    await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def blob(path: Path, size: int) -> WeightsRef:
    """Write a file whose chunks all differ; return the reference to it."""
    content = b"".join(number.to_bytes(8, "little") for number in range(-(-size // 8)))[:size]
    path.write_bytes(content)
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=size)
