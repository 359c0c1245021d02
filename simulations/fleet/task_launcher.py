"""A launcher that runs workers as tasks of their agent's process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from pathlib import Path

from heliograph.core.child_process import described_end
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.edge_agent.launcher import LaunchFailed, LaunchRequest, RunningWorker
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.simulations.virtual.worker_output import Lines
from heliograph.simulations.virtual.worlds import Program
from heliograph.workers.runtime import WorkerEnvironment


class TaskLauncher(SharedDirectory):
    """A launcher of ``programs``, by the task's role, in the agent's world."""

    def __init__(self, programs: Mapping[str, Program], world: World, directory: Path) -> None:
        super().__init__(directory)
        self._programs = programs
        self._world = world

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        program = self._programs.get(request.role)
        if program is None:
            raise LaunchFailed(f"no program for role {request.role}")
        variables = request.variables(str(self.of(request.worker)), str(request.models), map(str, request.code))
        lines = Lines()
        launch = WorkerEnvironment.of(variables, request.secret)
        return _RunningTask(program(launch, replace(self._world, say=lines.say)), lines)

    async def offers(self) -> bytes:
        return b"{}"


class _RunningTask:
    def __init__(self, program: Awaitable[int], lines: Lines) -> None:
        self.lines = lines
        self._task = asyncio.create_task(self._run(program))

    async def wait(self) -> str:
        await asyncio.wait({self._task})
        return described_end(-15 if self._task.cancelled() else self._task.result())

    async def terminate(self) -> None:
        self._task.cancel()

    async def kill(self) -> None:
        self._task.cancel()

    async def _run(self, program: Awaitable[int]) -> int:
        try:
            return await program
        except HeliographError as error:
            self.lines.say(f"error: {error}")
            return 1
        finally:
            self.lines.end()
