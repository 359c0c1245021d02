"""Workers as tasks of their agent's process, for an agent that believes to have started processes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heliograph.core.errors import HeliographError
from heliograph.core.world import Process, World
from heliograph.simulations.virtual.worlds import LINE_LIMIT, Program

_PIDS = itertools.count(1)


def spawner(edge: str, programs: Mapping[str, Program], world: World) -> Callable[..., Awaitable[Process]]:
    """What takes the place of ``World.spawn`` on that edge; the workers' world is ``world``."""

    async def spawn(
        argv: Sequence[str], *, env: Mapping[str, str], cwd: str, before: Callable[[], None] | None = None
    ) -> Process:
        child = _Spawned()
        environment = {**env, "HELIOGRAPH_EDGE": edge}
        child.begin(programs[argv[2]](environment, replace(world, say=child.say)))
        return child

    return spawn


class _Spawned:
    def __init__(self) -> None:
        self.pid = next(_PIDS)
        self.stdout: asyncio.StreamReader | None = asyncio.StreamReader(limit=LINE_LIMIT)
        self.returncode: int | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, program: Awaitable[int]) -> None:
        self._task = asyncio.create_task(self._run(program))

    def say(self, line: str) -> None:
        assert self.stdout is not None
        self.stdout.feed_data(line.encode() + b"\n")

    async def wait(self) -> int:
        assert self._task is not None
        await asyncio.wait({self._task})
        return self.returncode or 0

    def terminate(self) -> None:
        assert self._task is not None
        self._task.cancel()

    kill = terminate

    async def _run(self, program: Awaitable[Any]) -> None:
        self.returncode = -15
        try:
            self.returncode = await program
        except HeliographError as error:
            self.say(f"error: {error}")
            self.returncode = 1
        finally:
            assert self.stdout is not None
            self.stdout.feed_eof()
