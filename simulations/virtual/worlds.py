"""What a simulated process gets as its world: the loop's clock, seeded randomness, a disk in memory, and processes
that are tasks."""

from __future__ import annotations

import asyncio
import io
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.simulations.virtual.disk import Disk, OpenFiles
from heliograph.simulations.virtual.draws import Draws
from heliograph.simulations.virtual.loop import Process, VirtualLoop

EPOCH = 1_767_225_600.0
"""2026-01-01T00:00:00Z: where every simulation begins."""
LINE_LIMIT = 1 << 20
Program = Callable[[dict[str, str], World], Awaitable[int]]
"""What a spawned process does, with its environment: returns the exit code."""


class Worlds:
    """Makes worlds.

    Args:
        programs: by the module that a real process would run.
        transport: ``transport(process, url, root, world, name)`` connects.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        seed: str,
        programs: Mapping[str, Program],
        transport: Callable[[Process, str, str, World, str], Bus],
    ) -> None:
        self._loop = loop
        self._seed = seed
        self._programs = programs
        self._transport = transport
        self._incarnations: dict[str, int] = {}
        self._pid = 1
        self._disks: dict[str, Disk] = {}
        self._files = OpenFiles()
        self.children: dict[Child, None] = {}
        """The spawned processes that live."""
        self.broken: list[str] = []
        """Of the spawned processes that ended by a mistake of ours: which, and where."""

    def disk(self, name: str) -> Disk:
        """The disk of the process of that name."""
        return self._disks.get(name) or self._disks.setdefault(name, Disk(self._files))

    def world(self, process: Process, say: Callable[[str], None] = lambda line: None) -> World:
        """The world of a process: another incarnation of the same name draws other numbers."""
        incarnation = self._incarnations[process.name] = self._incarnations.get(process.name, 0) + 1
        draws = Draws(f"{self._seed}/{process.name}/{incarnation}")
        around = _Surroundings(self, self._loop, process)
        return World(
            now=around.now,
            monotonic=self._loop.time,
            new_id=draws.new_id,
            new_secret=draws.new_secret,
            rng=cast(Any, draws),
            spawn=around.spawn,
            transport=around.transport,
            hold=_hold,
            database=around.database,
            say=say,
        )

    def connect(self, process: Process, url: str, root: str, world: World, name: str) -> Bus:
        """A connection of a process."""
        return self._transport(process, url, root, world, name)

    def spawn(self, parent: Process, program: str, env: dict[str, str]) -> Child:
        """Starts a process that dies with its parent. Raises HeliographError where there is no such program."""
        if program not in self._programs:
            raise HeliographError(f"no simulated program {program}")
        self._pid += 1
        env.setdefault("HELIOGRAPH_EDGE", parent.name.removeprefix("agent-"))
        name = f"{parent.name}/{env.get('HELIOGRAPH_WORKER', program.rpartition('.')[2])}"
        process = Process(name)
        process.ahead = parent.ahead
        child = Child(self._pid, self._loop, process, self.broken.append)
        parent.on_death.append(child.kill)  # as PR_SET_PDEATHSIG has it
        self.children[child] = None

        def over() -> None:
            del self.children[child]
            parent.on_death.remove(child.kill)

        child.begin(self._programs[program](env, self.world(process, child.say)), over)
        return child


class _Surroundings:
    """What a world asks in the name of its process."""

    __slots__ = ("_loop", "_process", "_worlds")

    def __init__(self, worlds: Worlds, loop: VirtualLoop, process: Process) -> None:
        self._worlds = worlds
        self._loop = loop
        self._process = process

    def now(self) -> float:
        return EPOCH + self._loop.time() + self._process.ahead

    async def spawn(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, before: Callable[[], None] | None = None
    ) -> Child:
        return self._worlds.spawn(self._process, argv[2], dict(env))

    def transport(self, url: str, root: str, world: World, name: str, inbox: str) -> Bus:
        return self._worlds.connect(self._process, url, root, world, name)

    def database(self, path: Path) -> Any:
        return self._worlds.disk(self._process.name).connect(path)


class Child:
    """A spawned process, as ``asyncio.subprocess.Process`` has it."""

    def __init__(self, pid: int, loop: VirtualLoop, process: Process, broke: Callable[[str], None]) -> None:
        self.pid = pid
        self._broke = broke
        self.process = process
        self.stdout: asyncio.StreamReader | None = asyncio.StreamReader(limit=LINE_LIMIT, loop=loop)
        self.returncode: int | None = None
        self._loop = loop
        self._ended = loop.create_future()

    def begin(self, program: Awaitable[int], over: Callable[[], None]) -> None:
        self._over = over
        self.process.on_death.append(self.kill)
        self._task = self._loop.create_task(self._run(program), context=self.process.context.copy())

    def say(self, line: str) -> None:
        assert self.stdout is not None
        self.stdout.feed_data(line.encode() + b"\n")

    async def wait(self) -> int:
        code: int = await asyncio.shield(self._ended)
        return code

    def terminate(self) -> None:
        self._end(-15)

    def kill(self) -> None:
        self._end(-9)

    async def _run(self, program: Awaitable[int]) -> None:
        try:
            code = await program
        except HeliographError as error:
            self.say(f"error: {error}")
            code = 1
        except Exception as error:
            self._broke(f"{self.process.name}: {''.join(traceback.format_exception(error))}")
            code = 1
        self.process.tasks.discard(self._task)  # it ends by itself: nothing of it has to be kept from running
        self._end(code)

    def _end(self, code: int) -> None:
        if self.returncode is not None:
            return
        self.returncode = code
        self._over()
        self._loop.kill(self.process)
        assert self.stdout is not None
        self.stdout.feed_eof()
        if not self._ended.done():
            self._ended.set_result(code)


def _hold(state: Path) -> io.BytesIO:
    state.mkdir(parents=True, exist_ok=True)
    return io.BytesIO()
