"""The stage of a replay: a hub in virtual time that plays recorded messages and records the component's messages."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract import registry
from heliograph.bus.contract.event import is_event, parse
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Bus, KeyValueEntry, Message
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import DEFECT
from heliograph.core.world import World
from heliograph.simulations.check.comparable import comparable
from heliograph.simulations.check.compare import TimedMessage
from heliograph.simulations.check.loaded_trace import WARM, RecordedMessage
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.worlds import Program, Worlds

CLOUD_URL = "memory://cloud"
NODE_URL = "memory://node"
STREAM_BYTES = 1 << 30
AFTER = 1.5
"""Seconds for which the component runs on after the last message."""
Connect = Callable[[Process, str, str, World, str], Bus]


@dataclass(frozen=True)
class Action:
    """A function to call at a time; actions of the same time run in the order of their numbers."""

    at: float
    number: int
    do: Callable[[], Awaitable[None] | None]


class ReplayStage:
    """A stage that plays actions to a component.

    Args:
        programs: programs of the workers that the component launches, by role.
        connect: function that returns the component's connections; default: directly to the hub.
        job: record only messages of this job or service; empty for all.
    """

    def __init__(
        self, loop: VirtualLoop, programs: Mapping[str, Program] | None = None, connect: Connect | None = None,
        job: str = "",
    ) -> None:  # fmt: skip
        self.loop = loop
        self.hub = Hub(loop.time, STREAM_BYTES)
        self.worlds = Worlds(loop, "check", programs or {}, connect or self.connect)
        self.published: list[TimedMessage] = []
        self.failures: list[str] = []
        """Descriptions of components that ended by themselves, which they should not, and their lines about defects."""
        self._job = job
        self._feeding = False

    def connect(self, process: Process, url: str, root: str, world: World, name: str) -> Bus:
        bus = MemoryBus(url, root, world, name, self.hub)
        process.on_death.append(bus.drop)
        return bus

    def run(self, process: Process, component: Coroutine[Any, Any, object]) -> None:
        """Start a component in its process."""
        process.context.run(self.loop.create_task, self._watched(process, component))

    def observe_output(self, line: str) -> None:
        """Check a line printed by a component."""
        if DEFECT in line:
            self.failures.append(line)

    def record(self, *patterns: str) -> None:
        """Record the messages on these topics from now on."""
        for pattern in patterns:
            self.hub.receivers.add(pattern, "", self._record)

    def publish(self, recorded: RecordedMessage, body: bytes | None = None) -> None:
        """Publish a recorded message, optionally with another body."""
        content = recorded.body if body is None else body
        self._feeding = True  # nobody but the component publishes what is recorded
        try:
            self.hub.publish(recorded.address, Message(recorded.address, content, headers=dict(recorded.headers)))
        finally:
            self._feeding = False

    def store(self, bucket: str, key: str, value: bytes) -> None:
        """Store a key-value entry that another component wrote."""
        revision = self.hub.revisions[bucket] = self.hub.revisions.get(bucket, 0) + 1
        self.hub.buckets.setdefault(bucket, {})[key] = KeyValueEntry(key, value, revision)

    async def play(self, actions: list[Action], end: float) -> None:
        """Play the actions, and return a little after ``end``. The effects of an action at its time come before the
        next action."""
        for action in sorted(actions, key=lambda each: (each.at, each.number)):
            await self.wait_until(action.at)
            await self.loop.wait_until_idle()
            done = action.do()
            if inspect.isawaitable(done):
                await done
        await self.wait_until(end + AFTER)

    def outcome(self, wanted: Callable[[str], bool] = lambda address: True) -> tuple[list[TimedMessage], list[str]]:
        """Return copies of the messages on these addresses and of ``failures``; the loop's end kills all components."""
        return [each for each in self.published if wanted(each.topic)], list(self.failures)

    async def wait_until(self, at: float) -> None:
        if at > self.loop.time():
            reached = self.loop.create_future()
            self.loop.call_at(at, reached.set_result, None)
            await reached

    async def _watched(self, process: Process, component: Coroutine[Any, Any, object]) -> None:
        try:
            await component
        except* Exception as errors:
            self.failures += [f"{process.name} ended: {_error_text(each)}" for each in _flat(errors)]
        finally:
            self.loop.kill(process)

    def _record(self, message: Message) -> None:
        topic, _ = registry.lookup(message.topic)
        if topic is None or self._feeding:
            return
        at = self.loop.time()
        payload = comparable(topic, tree_of(message), self._job)
        self.published.append(TimedMessage(message.topic, payload, at, at < WARM))


def tree_of(message: Message) -> Any:
    """Return the payload of a message; None for an empty one."""
    if not message.body:
        return None
    try:
        tree = parse(message.body, message.topic)
    except Refused:
        return message.body
    return tree.get("data") if is_event(tree) else tree


def _flat(errors: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf for each in errors.exceptions
        for leaf in (_flat(each) if isinstance(each, BaseExceptionGroup) else [each])
    ]  # fmt: skip


def _error_text(error: BaseException) -> str:
    return str(error) if isinstance(error, HeliographError) else f"{type(error).__name__}: {error}"
