"""Where a component is tested: a hub in virtual time, the recorded messages played on it, and what is said written
down."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract import registry
from heliograph.bus.contract.event import is_event, parse
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World
from heliograph.simulations.check.compare import Said
from heliograph.simulations.check.material import WARM, Heard
from heliograph.simulations.check.normal import normal
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.worlds import Program, Worlds

CLOUD_URL = "memory://cloud"
NODE_URL = "memory://node"
STREAM_BYTES = 1 << 30
AFTER = 1.5
"""Seconds that the component runs on after the last message."""
Connect = Callable[[Process, str, str, World, str], Bus]


@dataclass(frozen=True)
class Action:
    """What is done at a time; of one time, in the order of their numbers."""

    at: float
    number: int
    do: Callable[[], Awaitable[None] | None]


class Stage:
    """Plays actions to a component.

    Args:
        programs: what is run for a module that the component would start as a process.
        connect: how it gets its connections; by default straight to the hub.
        job: of what is said, only what is of this job or service is written down; empty: all.
    """

    def __init__(
        self, loop: VirtualLoop, programs: Mapping[str, Program] | None = None, connect: Connect | None = None,
        job: str = "",
    ) -> None:  # fmt: skip
        self.loop = loop
        self.hub = Hub(loop.time, STREAM_BYTES)
        self.worlds = Worlds(loop, "check", programs or {}, connect or self.connect)
        self.said: list[Said] = []
        self.ended: list[str] = []
        """How what was tested ended by itself: it should not."""
        self._job = job

    def connect(self, process: Process, url: str, root: str, world: World, name: str) -> Bus:
        bus = MemoryBus(url, root, world, name, self.hub)
        process.on_death.append(bus.drop)
        return bus

    def run(self, process: Process, component: Coroutine[Any, Any, object]) -> None:
        """Starts a component in its process."""
        process.context.run(self.loop.create_task, self._watched(process, component))

    def write_down(self, *patterns: str) -> None:
        """From now on what is said on these topics."""
        for pattern in patterns:
            self.hub.receivers.add(pattern, "", self._write)

    def publish(self, heard: Heard, body: bytes | None = None) -> None:
        """Says again what was recorded."""
        said = heard.body if body is None else body
        self.hub.publish(heard.address, Message(heard.address, said, headers=dict(heard.headers)))

    async def play(self, actions: list[Action], end: float) -> None:
        """Returns a little after ``end``. Each action's consequences at the same time come before the next action."""
        for action in sorted(actions, key=lambda each: (each.at, each.number)):
            await self.until(action.at)
            await self.loop.wait_until_idle()
            done = action.do()
            if inspect.isawaitable(done):
                await done
        await self.until(end + AFTER)

    def outcome(self, wanted: Callable[[str], bool] = lambda address: True) -> tuple[list[Said], list[str]]:
        """What was said on these addresses, and how components ended; as it is now: the loop's end kills them all."""
        return [each for each in self.said if wanted(each.topic)], list(self.ended)

    async def until(self, at: float) -> None:
        if at > self.loop.time():
            reached = self.loop.create_future()
            self.loop.call_at(at, reached.set_result, None)
            await reached

    async def _watched(self, process: Process, component: Coroutine[Any, Any, object]) -> None:
        try:
            await component
        except* Exception as errors:
            self.ended += [f"{process.name} ended: {_told(each)}" for each in _flat(errors)]
        finally:
            self.loop.kill(process)

    def _write(self, message: Message) -> None:
        topic, _ = registry.lookup(message.topic)
        if topic is None:
            return
        at = self.loop.time()
        self.said.append(Said(message.topic, normal(topic, tree_of(message), self._job), at, at < WARM))


def tree_of(message: Message) -> Any:
    """The payload of a message; None of an empty one."""
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


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, HeliographError) else f"{type(error).__name__}: {error}"
