"""A supervisor in virtual time with a launcher that starts no process, for the supervisor's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

from heliograph.bus.contract.payloads import TrainTask, WorkerState
from heliograph.core.world import World
from heliograph.edge_agent.launcher import LaunchFailed, LaunchRequest
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.edge_agent.supervised_worker import Worker
from heliograph.edge_agent.supervisor import Supervisor
from heliograph.simulations.virtual.loop import VirtualLoop, run
from heliograph.simulations.virtual.worker_output import Lines

T = TypeVar("T")
NAME = "job-worker"


def train_task(**changes: Any) -> TrainTask:
    return TrainTask(**{"worker": NAME, "job": "job", "job_uid": "u", "round": 1, **changes})


def state(state: Literal["hello", "failed", "left"], detail: str = "", **more: Any) -> WorkerState:
    return WorkerState(worker=NAME, state=state, detail=detail, **more)


class Handle:
    """A worker that ends when the test ends it, and on ``terminate`` unless it is stubborn."""

    def __init__(self, request: LaunchRequest, at: float, stubborn: bool, silent: bool) -> None:
        self.request = request
        self.at = at
        self.asked: list[str] = []
        self.lines: Lines | None = None if silent else Lines()
        self._stubborn = stubborn
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(self, how: str = "exit code 1") -> None:
        if self.lines is not None:
            self.lines.end()
        if not self._ended.done():
            self._ended.set_result(how)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def terminate(self) -> None:
        self.asked.append("terminate")
        if not self._stubborn:
            self.end("exit code -15")

    async def kill(self) -> None:
        self.asked.append("kill")
        self.end("exit code -9")


@dataclass
class Node:
    """A supervisor in virtual time with a launcher that starts no process."""

    loop: VirtualLoop
    stubborn: bool = False
    silent: bool = False
    takes: float = 0.0
    """Seconds that a launch takes."""
    failing: str = ""
    started: list[Handle] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    swept: list[set[str]] = field(default_factory=list)
    logged: list[tuple[str, str, str]] = field(default_factory=list)
    changes: int = 0
    next_start: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        secrets = count(1)
        world = World(monotonic=self.loop.time, new_secret=lambda: next(secrets).to_bytes(32, "big"))
        self.supervisor = Supervisor(
            world, _Launcher(self), {"HELIOGRAPH_EDGE": "edge-1"}, Path("/models"),
            lambda task: (Path("/code"),), self._changed, lambda *logged: self.logged.append(logged),
        )  # fmt: skip

    @property
    def worker(self) -> Worker:
        return self.supervisor.workers[NAME]

    async def until_started(self, starts: int) -> Handle:
        """Wait for a start, counted from 1; return its handle."""
        while len(self.started) < starts:
            self.next_start.clear()
            await self.next_start.wait()
        return self.started[starts - 1]

    def _changed(self) -> None:
        self.changes += 1


def run_on_node(test: Callable[[Node], Coroutine[Any, Any, T]], **how: Any) -> T:
    async def main(loop: VirtualLoop) -> T:
        return await test(Node(loop, **how))

    return run(main)


class _Launcher(SharedDirectory):
    def __init__(self, node: Node) -> None:
        super().__init__(Path("/nowhere"))
        self._node = node

    async def launch(self, request: LaunchRequest) -> Handle:
        node = self._node
        node.attempts.append(node.loop.time())
        await asyncio.sleep(node.takes)
        if node.failing:
            raise LaunchFailed(node.failing)
        node.started.append(Handle(request, node.loop.time(), node.stubborn, node.silent))
        node.next_start.set()
        return node.started[-1]

    async def offers(self) -> bytes:
        raise AssertionError("a supervisor does not ask for offers")

    def sweep(self, wanted: Collection[str]) -> None:
        self._node.swept.append(set(wanted))
