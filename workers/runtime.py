"""A worker process's connection to its node: assignments in, events out, the same on the edge (MQTT) and in the cloud
(NATS)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.payloads import Assignment, WorkerState
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT, Topic
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.world import World
from heliograph.workers.outbox import Outbox

P = TypeVar("P", bound=BaseModel)
HELLO_AGAIN = 2.0
_NOT_COMPARED: dict[str, Any] = {"number": True, "task": {"model": {"inline"}}}
"""Fields in which a repeated assignment may differ: its number, and bytes that their digest identifies."""


@dataclass(frozen=True)
class WorkerEnvironment:
    """What a worker learns at its launch, from its environment."""

    bus: str
    root: str
    edge: str
    worker: str
    secret: bytes
    directory: Path
    """This worker's own; what it writes under ``staged`` the agent uploads."""
    models: Path
    """The node's models by digest, shared with the agent."""

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> WorkerEnvironment:
        """Raises Refused naming the variable that is missing: workers are launched by an agent, not by hand."""
        try:
            return cls(
                bus=environment["HELIOGRAPH_BUS"],
                root=environment.get("HELIOGRAPH_ROOT", DEFAULT_ROOT),
                edge=environment["HELIOGRAPH_EDGE"],
                worker=environment["HELIOGRAPH_WORKER"],
                secret=bytes.fromhex(environment.pop("HELIOGRAPH_SECRET", "")),
                directory=Path(environment["HELIOGRAPH_DIRECTORY"]),
                models=Path(environment["HELIOGRAPH_MODELS"]),
            )
        except KeyError as missing:
            raise Refused("invalid", field=str(missing.args[0]), expected="the environment of an agent's launch",
                          hint="Workers are launched by 'heliograph agent', not by hand.") from None  # fmt: skip


class Runtime:
    """The worker's side of its agent. An async context manager."""

    def __init__(self, launch: WorkerEnvironment, world: World) -> None:
        self.launch = launch
        self.world = world
        self.bus = connect(launch.bus, root=launch.root, world=world, name=launch.worker)
        self.incarnation = world.new_id()
        self.port = Port(self.bus, world, f"{launch.edge}/{launch.worker}/{self.incarnation}")
        self._outbox: Outbox | None = None
        if not self.bus.durable:
            self._outbox = Outbox(self.port, launch.worker, self.incarnation, launch.secret)

    async def __aenter__(self) -> Self:
        await self.bus.open()
        await self.bus.link.wait_up(30)
        if self._outbox is not None:
            await self._outbox.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._outbox is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._outbox.flush()
            await self._outbox.close()
        await self.bus.close()

    async def assignments(self, take: Callable[[Assignment], Awaitable[None]]) -> None:
        """Hands each new assignment to ``take`` until the job has ended; asks again while none has come."""
        newest, told = 0, None
        async with self.port.subscribe(topics.ASSIGNMENT, self._refused, worker=self.launch.worker) as received:
            asking = asyncio.create_task(self._ask())
            self.bus.link.listen(self._on_link)
            try:
                async for each in received:
                    asking.cancel()
                    new = each.payload
                    if new.number < newest:
                        continue  # overtaken: its agent tried again while the node's broker was away
                    newest, before, told = new.number, told, new.model_dump(exclude=_NOT_COMPARED)
                    if told != before:
                        await take(new)
                    if new.ended:
                        return
                    del each, new  # free the model while the next assignment is awaited
            finally:
                asking.cancel()
                self.bus.link.forget(self._on_link)

    async def send(self, topic: Topic[P], payload: P, **params: str) -> None:
        """Publishes an event that must not be lost."""
        if self._outbox is not None:
            await self._outbox.send(topic, payload, **params)
        else:
            address = topic.at(**params)
            body = encode(self.port.event(topic, payload, address))
            await retry_until_reachable(lambda: self.bus.publish(address, body), self.world, self.world.say)

    async def stage_upload(self, weights: WeightsRef) -> WeightsRef:
        """Return staged weights as an event may name them.

        On the edge the agent uploads them before it forwards the event; in the cloud the worker does.
        """
        if weights.inline is not None:
            return weights
        placed = weights.model_copy(update={"bucket": upload_bucket(self.launch.edge)})
        if self.bus.durable:
            file = self.launch.directory / "staged" / weights.digest
            await retry_until_reachable(lambda: self._upload(file, placed), self.world, self.world.say)
            file.unlink(missing_ok=True)
        return placed

    async def _upload(self, file: Path, placed: WeightsRef) -> None:
        await (await self.bus.blobs(upload_bucket(self.launch.edge))).put(file, placed)

    async def say(self, state: Literal["hello", "failed"], detail: str = "") -> None:
        """Tells the agent what this worker is doing; the agent asks nobody, it listens."""
        with contextlib.suppress(HeliographError):
            payload = WorkerState(worker=self.launch.worker, state=state, detail=detail[:4000])
            await self.port.publish(topics.WORKER, payload, sure=False, worker=self.launch.worker)

    def _on_link(self, up: bool) -> None:
        if up:  # assignments published while the link was down were missed
            self._hello = asyncio.get_running_loop().create_task(self.say("hello"))

    async def _ask(self) -> None:
        while True:
            await self.say("hello")
            await self.world.sleep(HELLO_AGAIN)

    def _refused(self, error: Refused) -> None:
        self.world.say(f"an assignment was refused: {error}")


def log(line: str) -> None:
    """A line of this worker's log: the agent puts what a worker prints onto the log topic."""
    print(line, flush=True)


def run(main: Callable[[], Awaitable[None]]) -> int:
    """Runs a worker's main coroutine; an expected error becomes one line and exit code 1."""
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:
        runner = asyncio.run  # type: ignore[assignment]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        runner(main())  # type: ignore[arg-type]
    except HeliographError as error:
        log(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
