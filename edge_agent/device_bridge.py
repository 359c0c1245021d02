"""Between the broker of the node's devices, which lets everybody in, and the agent's own one for workers: what devices
may ask comes in, and the answers go out. Nothing else crosses: what devices tell goes straight into the journal.

It keeps no message: what a broker that is away would have got is dropped, and the sender repeats it or gets no answer,
as at a broker that restarts.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgpack

from heliograph.bus.contract.event import parse
from heliograph.bus.contract.topics import ANSWER, INFERENCE_REQUEST, OFFLOAD, REPLY, REQUEST
from heliograph.bus.reply import reply_of
from heliograph.bus.transport import Bus, Message, require_live
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.world import World

MOST_ASKED = 4096
"""Requests whose answers are awaited, at most; the oldest is forgotten first."""
CLIENT = "bridge"
"""The client in the addresses of replies to requests whose own address, a response topic of MQTT 5, waits here."""


class DeviceBridge:
    """Relays between the two brokers.

    Args:
        devices: connection to the devices' broker.
        workers: connection to the workers' broker.
    """

    def __init__(self, devices: Bus, workers: Bus, edge: str, world: World, failures: Failures) -> None:
        self._devices = devices
        self._workers = workers
        self._edge = edge
        self._world = world
        self._failures = failures
        self._asked: OrderedDict[str, tuple[str, bytes | None]] = OrderedDict()
        """Where the answer to an address goes on the devices' broker, and its correlation data."""

    async def run(self) -> None:
        """Relay until cancelled."""
        async with asyncio.TaskGroup() as group:
            for bus, pattern, carry in (
                (self._devices, INFERENCE_REQUEST.filter(), self._carry_request),
                (self._devices, REQUEST.filter(resource="labels"), self._carry_request),
                (self._devices, OFFLOAD.filter(), self._carry_offload),
                (self._workers, REPLY.filter(), self._carry_reply),
                (self._workers, ANSWER.filter(), self._carry_answer),
            ):
                group.create_task(self._relay(bus, pattern, carry))

    async def _relay(self, bus: Bus, pattern: str, carry: Callable[[Message], Awaitable[None]]) -> None:
        async with bus.subscribe(pattern) as messages:
            async for message in messages:
                with self._failures.contain(message.topic):
                    require_live(message)
                    await carry(message)
                del message  # free its memory while the next one is awaited

    async def _carry_request(self, message: Message) -> None:
        body = message.body
        if message.reply_to is not None:
            body = self._with_address_here(message)
        await self._workers.publish(message.topic, body, sure=False)

    async def _carry_offload(self, message: Message) -> None:
        if (params := OFFLOAD.match(message.topic)) is not None:
            address = ANSWER.at(edge=self._edge, **params)
            self._await_answer(address, address, None)
            await self._workers.publish(message.topic, message.body, sure=False)

    async def _carry_reply(self, message: Message) -> None:
        address, correlation = self._asked.pop(message.topic, (message.topic, None))
        await self._devices.publish(address, message.body, correlation=correlation, sure=False)

    async def _carry_answer(self, message: Message) -> None:
        """Carry the answer to a sample that a device has offloaded; those of workers stay among workers."""
        if self._asked.pop(message.topic, None) is not None:
            await self._devices.publish(message.topic, message.body, sure=False)

    def _with_address_here(self, message: Message) -> bytes:
        """Return a request that names an address of its own for the reply: the workers' broker knows no response topic,
        and a device may have one response topic for all its requests."""
        address = reply_of(message, None, self._devices.root)
        body = message.body or b"{}"
        tree = parse(body, message.topic)
        if not isinstance(tree, dict):
            raise Refused("invalid", topic=message.topic, expected="a mapping", got=tree)
        here = REPLY.at(client=CLIENT, id=self._world.new_id())
        self._await_answer(here, address, message.correlation)
        tree["reply_to"] = f"{self._workers.root}/{here}"
        return json.dumps(tree).encode() if body[:1] == b"{" else bytes(msgpack.packb(tree))

    def _await_answer(self, here: str, there: str, correlation: bytes | None) -> None:
        self._asked[here] = there, correlation
        while len(self._asked) > MOST_ASKED:
            self._asked.popitem(last=False)
