"""The labellers of a run: people who claim tasks, label them, pass over some, come too late and repeat themselves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.world import World
from heliograph.requester import result_of
from heliograph.simulations.fuzz.learning_record import LearningRecord
from heliograph.simulations.virtual.virtual_cluster import NODE_URL

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Sends a request with that verb to a label queue, and returns the result."""
PAUSE = 1.0
TIMEOUT = 3.0
REPEATED = 5
"""Times that a labeller sends a label before giving it up."""


class Labeller:
    """One labeller of one queue.

    Args:
        place: where the queue is: an edge, or the cloud.
        name: of the labeller; nobody else has it.
        lease: seconds of the queue's leases.
        rng: what a careless labeller does is drawn by it; a careful one has none.
    """

    def __init__(
        self, ask: Ask, queue: str, place: str, name: str, lease: float, record: LearningRecord, world: World,
        rng: random.Random | None,
    ) -> None:  # fmt: skip
        self._ask = ask
        self._queue = queue
        self._place = place
        self._name = name
        self._lease = lease
        self._record = record
        self._world = world
        self._rng = rng

    async def run(self) -> None:
        """Label what there is until cancelled."""
        while True:
            tasks = []
            with contextlib.suppress(HeliographError):  # nobody answers, or there is no such queue yet
                claimed = await self._ask("claim", {"name": self._queue, "labeller": self._name, "count": 2})
                tasks = claimed["tasks"]
            for each in tasks:
                with contextlib.suppress(Refused):  # the lease has ended, or another request of this labeller was first
                    await self._label(each["lease"], each["task"]["task"])
            if not tasks:
                await self._world.sleep(PAUSE)

    async def _label(self, lease: str, task: str) -> None:
        await self._world.sleep(0.1)
        drawn = self._rng.random() if self._rng is not None else 1.0
        if drawn < 0.15:
            await self._sent("skip", {"lease": lease})
            return
        if drawn < 0.25:
            await self._sent("release", {"lease": lease})
            return
        if drawn < 0.35:
            await self._world.sleep(1.2 * self._lease)
        elif drawn < 0.5:
            await self._sent("renew", {"lease": lease})
        body = {"lease": lease, "task": task, "result": {"type": "choice", "value": self._record.classes[task]}}
        for _ in range(2 if drawn < 0.7 else 1):
            submitted = await self._sent("submit", body)
            if submitted is not None and submitted["annotation"]["phase"] == "labelled":
                self._record.accepted[self._queue, self._place].add(task)

    async def _sent(self, verb: str, body: Mapping[str, Any]) -> Any:
        """Send a request until it is answered, a few times. Raise Refused."""
        for _ in range(REPEATED):
            try:
                return await self._ask(verb, {"name": self._queue, **body})
            except Refused:
                raise
            except HeliographError:
                await self._world.sleep(PAUSE)
        return None


def of_the_cloud(bus: Bus) -> Ask:
    """Return what sends requests to the coordinator."""

    async def ask(verb: str, body: Mapping[str, Any]) -> Any:
        address = REQUEST.at(resource="labels", verb=verb)
        return result_of((await bus.request(address, json.dumps(body).encode(), TIMEOUT)).body)

    return ask


class NodeLabellers:
    """The connection of an edge's labellers to their node's broker. Run it in a process of the node."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._bus = connect(NODE_URL, world=world, name=name)
        self._numbers = count(1)
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def run(self) -> None:
        """Take replies until cancelled."""
        await self._bus.open()
        async with self._bus.subscribe(f"reply/{self._name}/+") as messages:
            async for message in messages:
                waiting = self._waiting.get(message.topic)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message.body)

    async def ask(self, verb: str, body: Mapping[str, Any]) -> Any:
        """Send a request, and return its result. Raise Unreachable where no reply comes."""
        address = f"reply/{self._name}/{next(self._numbers)}"
        self._waiting[address] = asyncio.get_running_loop().create_future()
        try:
            await self._bus.publish(REQUEST.at(resource="labels", verb=verb), json.dumps(body).encode(),
                                    reply_to=address)  # fmt: skip
            async with asyncio.timeout(TIMEOUT):
                return result_of(await self._waiting[address])
        except TimeoutError:
            raise Unreachable(f"no answer to {verb} in {TIMEOUT:g} s") from None
        finally:
            del self._waiting[address]
