"""What a simulated process gets as its world: the loop's clock, seeded randomness, disks in memory, and processes that
are tasks."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heliograph.bus.errors import HeliographError
from heliograph.bus.transport import Bus
from heliograph.bus.world import World, seeded
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
        self.children: dict[Child, None] = {}
        """The spawned processes that live."""
        self.broken: list[str] = []
        """Of the spawned processes that ended by a mistake of ours: which, and where."""

    def disk(self, name: str) -> Disk:
        """The disk of the process of that name."""
        return self._disks.setdefault(name, Disk())

    def world(self, process: Process, say: Callable[[str], None] = lambda line: None) -> World:
        """The world of a process: another incarnation of the same name draws other numbers."""
        incarnation = self._incarnations[process.name] = self._incarnations.get(process.name, 0) + 1
        rng = seeded(f"{self._seed}/{process.name}/{incarnation}")
        disk = self.disk(process.name)

        async def spawn(
            argv: Sequence[str], *, env: Mapping[str, str], cwd: str, before: Callable[[], None] | None = None
        ) -> Child:
            if argv[2] not in self._programs:
                raise HeliographError(f"no simulated program {argv[2]}")
            return self._spawn(process, argv[2], dict(env))

        return World(
            now=lambda: EPOCH + self._loop.time() + process.ahead,
            monotonic=self._loop.time,
            new_id=lambda: f"{rng.getrandbits(128):032x}",
            new_secret=lambda: rng.getrandbits(256).to_bytes(32, "big"),
            rng=rng,
            spawn=spawn,
            transport=lambda url, root, world, name, inbox: self._transport(process, url, root, world, name),
            hold=_hold,
            database=disk.connect,
            say=say,
        )

    def _spawn(self, parent: Process, program: str, env: dict[str, str]) -> Child:
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


class Disk:
    """A node's SQLite files, in memory: they outlive the processes that open them."""

    def __init__(self) -> None:
        self._files: dict[str, sqlite3.Connection] = {}

    def connect(self, path: Path) -> Any:
        key = str(path)
        if key not in self._files:
            # small, as there are thousands: of the defaults an empty journal takes 150 kB
            file = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=0)
            file.execute("PRAGMA page_size = 1024")
            file.execute("PRAGMA auto_vacuum = FULL")
            self._files[key] = file
        return _Connection(self._files[key])

    def file(self, name: str) -> sqlite3.Connection | None:
        """The file of that name, in whatever directory."""
        return next((file for path, file in self._files.items() if Path(path).name == name), None)

    def fill(self, full: bool) -> None:
        """From now on there is no room to write, or there is again."""
        for file in self._files.values():
            pages = file.execute("PRAGMA page_count").fetchone()[0] if full else 1 << 30
            file.execute(f"PRAGMA max_page_count = {pages}")


class _Connection:
    """One opening of a file: closing it leaves the file."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self.execute = file.execute
        self.executemany = file.executemany
        self.executescript = file.executescript
        self._file = file

    @property
    def in_transaction(self) -> bool:
        return self._file.in_transaction

    def close(self) -> None:
        return None


def _hold(state: Path) -> io.BytesIO:
    state.mkdir(parents=True, exist_ok=True)
    return io.BytesIO()
