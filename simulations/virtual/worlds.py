"""The world of a simulated process: the loop's clock, seeded randomness, a disk in memory, and workers as tasks."""

from __future__ import annotations

import asyncio
import io
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from heliograph.bus.transport import Bus
from heliograph.core.child_process import described_end
from heliograph.core.errors import HeliographError
from heliograph.core.telemetry import NO_TELEMETRY, Telemetry
from heliograph.core.world import World
from heliograph.edge_agent.launcher import LaunchFailed, LaunchRequest
from heliograph.simulations.virtual.disk import Disk, OpenFiles
from heliograph.simulations.virtual.draws import Draws
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.worker_output import Lines
from heliograph.workers.runtime import WorkerEnvironment

EPOCH = 1_767_225_600.0
"""Start of every simulation, 2026-01-01T00:00:00Z, in seconds since 1970."""
Program = Callable[[WorkerEnvironment, World], Awaitable[int]]
"""A worker's program, called with its settings and world; it returns the exit code."""


class Worlds:
    """The worlds of a simulation's processes.

    Args:
        programs: the workers' programs, by role.
        transport: ``transport(process, url, root, world, name)`` returns a connection.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        seed: str,
        programs: Mapping[str, Program],
        transport: Callable[[Process, str, str, World, str], Bus],
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._loop = loop
        self._seed = seed
        self._programs = programs
        self._transport = transport
        self._telemetry = telemetry
        self._incarnations: dict[str, int] = {}
        self._disks: dict[str, Disk] = {}
        self._files = OpenFiles()
        self.children: dict[Child, None] = {}
        """Running workers."""
        self.worker_failures: list[str] = []
        """Workers that ended by an unexpected exception, with its traceback."""

    def disk(self, name: str) -> Disk:
        """Return the disk of the process with that name."""
        return self._disks.get(name) or self._disks.setdefault(name, Disk(self._files))

    def world(self, process: Process, say: Callable[[str], None] = lambda line: None) -> World:
        """Return a new world for a process; each incarnation of a name draws different numbers."""
        incarnation = self._incarnations[process.name] = self._incarnations.get(process.name, 0) + 1
        draws = Draws(f"{self._seed}/{process.name}/{incarnation}")
        resources = _ProcessResources(self, self._loop, process)
        return World(
            now=resources.now,
            monotonic=self._loop.time,
            new_id=draws.new_id,
            new_secret=draws.new_secret,
            rng=cast(Any, draws),
            spawn=_refuse_process,
            transport=resources.transport,
            lock_directory=_hold,
            database=resources.database,
            telemetry=self._telemetry,
            say=say,
        )

    def connect(self, process: Process, url: str, root: str, world: World, name: str) -> Bus:
        """Return a connection of a process."""
        return self._transport(process, url, root, world, name)

    def launch(self, parent: Process, request: LaunchRequest, directory: Path) -> Child:
        """Start a worker that dies with its parent. Raises LaunchFailed if its role has no program."""
        program = self._programs.get(request.role)
        if program is None:
            raise LaunchFailed(f"no simulated worker of role {request.role}")
        process = Process(f"{parent.name}/{request.worker}")
        process.ahead = parent.ahead
        child = Child(self._loop, process, self.worker_failures.append)
        parent.on_death.append(child.end)  # like PR_SET_PDEATHSIG
        self.children[child] = None

        def on_end() -> None:
            del self.children[child]
            parent.on_death.remove(child.end)

        variables = request.variables(str(directory), str(request.models), map(str, request.code))
        launch = WorkerEnvironment.of(variables, request.secret)
        child.begin(program(launch, self.world(process, child.lines.say)), on_end)
        return child


class _ProcessResources:
    """The clock, connections and databases of one process."""

    __slots__ = ("_loop", "_process", "_worlds")

    def __init__(self, worlds: Worlds, loop: VirtualLoop, process: Process) -> None:
        self._worlds = worlds
        self._loop = loop
        self._process = process

    def now(self) -> float:
        return EPOCH + self._loop.time() + self._process.ahead

    def transport(self, url: str, root: str, world: World, name: str, inbox: str) -> Bus:
        return self._worlds.connect(self._process, url, root, world, name)

    def database(self, path: Path) -> Any:
        return self._worlds.disk(self._process.name).connect(path)


class Child:
    """A launched worker, as a process of the simulation."""

    def __init__(self, loop: VirtualLoop, process: Process, report_failure: Callable[[str], None]) -> None:
        self.process = process
        self.lines = Lines()
        self._report_failure = report_failure
        self._code: int | None = None
        self._loop = loop
        self._ended = loop.create_future()

    def begin(self, program: Awaitable[int], on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self.process.on_death.append(self.end)
        self._task = self._loop.create_task(self._run(program), context=self.process.context.copy())

    async def wait(self) -> str:
        return described_end(await asyncio.shield(self._ended))

    async def terminate(self) -> None:
        self.end(-15)

    async def kill(self) -> None:
        self.end()

    def end(self, code: int = -9) -> None:
        """End the worker now, as by a signal."""
        if self._code is not None:
            return
        self._code = code
        self._on_end()
        self._loop.kill(self.process)
        self.lines.end()
        if not self._ended.done():
            self._ended.set_result(code)

    async def _run(self, program: Awaitable[int]) -> None:
        try:
            code = await program
        except HeliographError as error:
            self.lines.say(f"error: {error}")
            code = 1
        except Exception as error:
            self._report_failure(f"{self.process.name}: {''.join(traceback.format_exception(error))}")
            code = 1
        self.process.tasks.discard(self._task)  # it ends by itself, so nothing must be kept from running
        self.end(code)


async def _refuse_process(argv: Sequence[str], *, env: Mapping[str, str], cwd: str, before: Any = None) -> Any:
    raise HeliographError(f"a simulation starts no processes: {' '.join(argv)}")


def _hold(state: Path, wait: bool = False) -> io.BytesIO:
    state.mkdir(parents=True, exist_ok=True)
    return io.BytesIO()
