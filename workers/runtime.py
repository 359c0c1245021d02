"""A worker process's connection to its node: receive assignments, send events; the same on the edge (MQTT) and in the
cloud (NATS)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.payloads import Assignment, ScriptTask, WorkerState
from heliograph.bus.contract.payloads.worker_tasks import WorkerTaskBase
from heliograph.bus.contract.permissions import inbox_of, upload_bucket, worker_login
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT, Topic
from heliograph.bus.port import Port
from heliograph.bus.weights_transfer import store_weights
from heliograph.core.child_process import PERMIT, give_up_permit, keep_permit
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import HeliographError, Refused, first_error
from heliograph.core.failures import Failures
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.text import say_line
from heliograph.core.worker_directory import STAGED
from heliograph.core.world import World
from heliograph.workers.outbox import Outbox

P = TypeVar("P", bound=BaseModel)
LOADS_WITHIN = 15.0
"""Seconds after which a worker that still loads lets others of its machine start."""
HELLO_EVERY = 2.0
"""Seconds between two requests for an assignment while none has come."""
SECRET_BYTES = 32
"""Bytes of a launch's secret; behind them is that of the worker's signing key."""
MAX_SECRET = 4096
"""Characters of the secret's file that are read, at most."""
_NOT_COMPARED: dict[str, Any] = {"number": True, "task": {"model": {"inline"}}}
"""Fields in which a repeated assignment may differ: its number, and bytes that their digest identifies."""


@dataclass(frozen=True)
class WorkerEnvironment:
    """The settings of a worker, from its environment variables."""

    bus: str
    root: str
    edge: str
    worker: str
    secret: bytes
    directory: Path
    """This worker's own directory; the agent uploads files from ``staged`` in it."""
    models: Path
    """Directory of the node's models, each named by its digest; shared with the agent."""
    code: tuple[Path, ...] = ()
    """Directories below which the user's code lies; the worker runs no other code."""
    signing_secret: bytes = b""
    """Secret of the key by which this worker signs for the cloud; empty where it does not."""

    @property
    def signer(self) -> Ed25519Signer | None:
        """The key by which this worker signs for the cloud."""
        return Ed25519Signer(self.signing_secret) if self.signing_secret else None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> WorkerEnvironment:
        """Read the settings, and the secret from its file, once. Raise Refused with the name of a missing variable:
        only agents launch workers."""
        keep_permit()
        try:
            return cls.of(environment, _read_once(environment.pop("HELIOGRAPH_SECRET_FILE")))
        except KeyError as missing:
            raise Refused("invalid", field=str(missing.args[0]), expected="the environment of an agent's launch",
                          hint="Workers are launched by 'heliograph agent', not by hand.") from None  # fmt: skip

    @classmethod
    def of(cls, environment: Mapping[str, str], secret: bytes) -> WorkerEnvironment:
        """Return the settings of a launch's variables and secret. Raise KeyError where a variable is missing."""
        return cls(
            bus=environment["HELIOGRAPH_BUS"],
            root=environment.get("HELIOGRAPH_ROOT", DEFAULT_ROOT),
            edge=environment["HELIOGRAPH_EDGE"],
            worker=environment["HELIOGRAPH_WORKER"],
            secret=secret[:SECRET_BYTES],
            signing_secret=secret[SECRET_BYTES:],
            directory=Path(environment["HELIOGRAPH_DIRECTORY"]),
            models=Path(environment["HELIOGRAPH_MODELS"]),
            code=tuple(map(Path, json.loads(environment["HELIOGRAPH_CODE"]))),
        )


class Runtime:
    """A worker's connection to its agent. An async context manager."""

    def __init__(self, environment: WorkerEnvironment, world: World) -> None:
        self.environment = environment
        self.world = world
        self.bus = connect(
            environment.bus, root=environment.root, world=world, name=environment.worker,
            inbox=inbox_of(worker_login(environment.worker)),
        )  # fmt: skip
        self.bus.makes_buckets = False
        self.incarnation = world.new_id()
        self.port = Port(self.bus, world, f"{environment.edge}/{environment.worker}/{self.incarnation}")
        self._failures = Failures(lambda line: world.say(f"an assignment was refused: {line}"))
        self._outbox: Outbox | None = None
        if not self.bus.durable:
            self._outbox = Outbox(self.port, environment.worker, self.incarnation, environment.secret)

    async def __aenter__(self) -> Self:
        if PERMIT in os.environ:  # a script may take as long as it likes to ask for its first round
            asyncio.get_running_loop().call_later(LOADS_WITHIN, give_up_permit)
        await self.bus.open()
        await self.bus.link.wait_up(30)
        if self._outbox is not None:
            await self._outbox.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.flush(2)
        if self._outbox is not None:
            await self._outbox.close()
        await self.bus.close()

    async def assignments(
        self, handle: Callable[[Assignment], Awaitable[None]], kind: type[WorkerTaskBase] = WorkerTaskBase
    ) -> None:
        """Hand each new assignment to ``handle`` until the job has ended; request one while none has come.

        Refuse an assignment of another worker, or whose task is not of that kind: this worker's agent has not sent it.
        """
        newest, content = 0, None
        async with self.port.subscribe(topics.ASSIGNMENT, self._refused, worker=self.environment.worker) as received:
            asking = asyncio.create_task(self._request_assignment())
            self.bus.link.listen(self._on_link)
            try:
                async for each in received:
                    try:
                        each.check_signed(self.environment.secret, f"the agent, for {self.environment.worker}'s launch")
                    except Refused as error:
                        self._refused(error)
                        continue
                    new = each.payload
                    if not isinstance(new.task, kind) or new.task.worker != self.environment.worker:
                        self._refused(Refused("invalid", topic=each.message.topic, field="task",
                                              expected=f"a task of {self.environment.worker}, of its role",
                                              got=f"{new.task.role} of {new.task.worker}"))  # fmt: skip
                        continue
                    asking.cancel()
                    if not isinstance(new.task, ScriptTask):  # else the script has to load
                        give_up_permit()
                    if new.number < newest:
                        continue  # late: its agent sent a newer one while the node's broker was away
                    newest, before, content = new.number, content, new.model_dump(exclude=_NOT_COMPARED)
                    if content != before:
                        await handle(new)
                    if new.ended:
                        return
                    del each, new  # free the model while the next assignment is awaited
            finally:
                asking.cancel()
                self.bus.link.forget(self._on_link)

    async def send(self, topic: Topic[P], payload: P, **params: str) -> None:
        """Publish an event that must not be lost."""
        if self._outbox is not None:
            await self._outbox.send(topic, payload, **params)
        else:
            address = topic.at(**params)
            body = encode(self.port.event(topic, payload, address))
            await retry_until_reachable(lambda: self.bus.publish(address, body), self.world, self.world.say)

    async def flush(self, seconds: float) -> None:
        """Wait until the agent has every sent event on its disk, so many seconds at most."""
        if self._outbox is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._outbox.flush()

    async def stage_upload(self, weights: WeightsRef) -> WeightsRef:
        """Return the reference by which an event names staged weights.

        On the edge the agent uploads them before it forwards the event; in the cloud this method does.
        """
        if weights.inline is not None:
            return weights
        placed = weights.model_copy(update={"bucket": upload_bucket(self.environment.edge)})
        if self.bus.durable:
            file = self.environment.directory / STAGED / weights.digest
            await retry_until_reachable(lambda: self._upload(file, placed), self.world, self.world.say)
            file.unlink(missing_ok=True)
        return placed

    async def _upload(self, file: Path, placed: WeightsRef) -> None:
        await store_weights(self.bus, file, placed, upload_bucket(self.environment.edge), self.world, hashed=True)

    async def report_state(
        self, state: Literal["hello", "failed", "left"], detail: str = "", final: bool = False,
        round: int | None = None,
    ) -> None:  # fmt: skip
        """Publish this worker's state for its agent."""
        with contextlib.suppress(HeliographError):
            key, worker = self.environment.secret, self.environment.worker
            payload = WorkerState(worker=worker, state=state, detail=detail[:4000], final=final, round=round)
            await self.port.publish(topics.WORKER, payload, sure=False, key=key, worker=worker)

    def _on_link(self, up: bool) -> None:
        if up:  # assignments published while the link was down were missed
            self._hello = asyncio.get_running_loop().create_task(self.report_state("hello"))

    async def _request_assignment(self) -> None:
        while True:
            await self.report_state("hello")
            await self.world.sleep(HELLO_EVERY)

    def _refused(self, error: Refused) -> None:
        self._failures.add(error.topic, error)


def _read_once(path: str) -> bytes:
    """Read the secret. Close an inherited pipe, so that no child process inherits it too. Raise Refused where the file
    cannot be read."""
    number = path.removeprefix("/dev/fd/")
    try:
        with os.fdopen(int(number)) if number.isdigit() else Path(path).open() as file:
            return bytes.fromhex(file.read(MAX_SECRET))
    except (OSError, ValueError):
        expected = "a file with the secret in hexadecimal digits"
        raise Refused("invalid", field="HELIOGRAPH_SECRET_FILE", expected=expected, got=path) from None


def log(line: str) -> None:
    """Print a line of this worker's log; the agent publishes printed lines on the log topic."""
    say_line(line)


def run(main: Callable[[], Awaitable[None]]) -> int:
    """Run a worker's main coroutine, and return the exit code; an expected error becomes one line and exit code 1."""
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:
        runner = asyncio.run  # type: ignore[assignment]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    code = 0
    try:
        runner(main())  # type: ignore[arg-type]
    except* HeliographError as errors:  # alone, or in the group that a task group raises
        log(f"error: {first_error(errors)}")
        code = 1
    except* KeyboardInterrupt:
        code = 130
    return code
