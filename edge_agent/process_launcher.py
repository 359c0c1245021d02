"""Launch workers as processes of this machine, with limits: read their output through a pipe, and exchange files in a
shared directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heliograph.core.child_process import SAFE_PATH, dying_with_parent
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import Process, World
from heliograph.edge_agent.launcher import SECRET_FILE, LaunchFailed, LaunchRequest, RunningWorker
from heliograph.edge_agent.shared_directory import SharedDirectory

MODULES = {
    "train": "heliograph.workers.train",
    "evaluate": "heliograph.workers.train",
    "aggregate": "heliograph.workers.aggregation.worker",
    "infer": "heliograph.workers.infer",
    "big-model": "heliograph.workers.infer",
}
"""The module that runs for each role."""
OFFERS = "heliograph.workers.offers"
MAX_LINE = 65536
DRAIN = 0.5
"""Seconds in which output is still read after a process's end, where a child keeps its pipe open."""


@dataclass(frozen=True)
class Limits:
    """Limits of a worker process; 0 is no limit. ``memory_mb`` bounds its private memory (RLIMIT_DATA)."""

    memory_mb: int = 0
    nice: int = 0


class ProcessLauncher(SharedDirectory):
    """Starts workers as subprocesses, each in a directory of its name under ``directory``."""

    def __init__(self, world: World, directory: Path, limits: Limits | None = None) -> None:
        super().__init__(directory)
        self._world = world
        self._limits = limits or Limits()

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        module = MODULES.get(request.role)
        if module is None:
            raise LaunchFailed(f"no worker runs for role {request.role}")
        directory = self.of(request.worker)
        variables = request.variables(str(directory), str(request.models), map(str, request.code))
        try:
            with _pipe_with(request.secret.hex().encode()) as secret:
                variables |= {SECRET_FILE: f"/dev/fd/{secret}", "PYTHONUNBUFFERED": "1"}
                return _RunningProcess(await self._spawn(module, variables, directory, self._child_setup(), (secret,)))
        except OSError as error:  # no file descriptor is left for the pipe
            raise LaunchFailed(str(error)) from None

    async def offers(self) -> bytes:
        process = await self._spawn(OFFERS, {}, self.directory, dying_with_parent())
        assert process.stdout is not None
        text = await process.stdout.read()
        await process.wait()
        return text

    async def _spawn(
        self, module: str, variables: dict[str, str], directory: Path, before: Callable[[], None],
        inherited: Sequence[int] = (),
    ) -> Process:  # fmt: skip
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return await self._world.spawn(
                [sys.executable, *SAFE_PATH, "-m", module], env=variables, cwd=str(directory), before=before,
                inherited=inherited,
            )
        except OSError as error:
            raise LaunchFailed(str(error)) from None

    def _child_setup(self) -> Callable[[], None]:
        limits, die_with_parent = self._limits, dying_with_parent()

        def before() -> None:
            die_with_parent()
            if limits.memory_mb:
                resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_mb << 20, limits.memory_mb << 20))
            if limits.nice:
                os.nice(limits.nice)

        return before


class _RunningProcess:
    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def lines(self) -> AsyncIterator[str]:
        return self._lines()

    async def wait(self) -> str:
        return f"exit code {await self._process.wait()}"

    async def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _lines(self) -> AsyncIterator[str]:
        """Yield lines until the process has ended, even where a child that outlives it keeps the pipe open."""
        assert self._process.stdout is not None
        ended = asyncio.ensure_future(self._end())
        following = asyncio.ensure_future(_next_line(self._process.stdout))
        try:
            while True:
                await asyncio.wait((following, ended), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    await asyncio.wait((following,), timeout=DRAIN)
                if not following.done() or (line := following.result()) is None:
                    return
                yield line
                following = asyncio.ensure_future(_next_line(self._process.stdout))
        finally:
            await cancel_and_wait(ended, following)

    async def _end(self) -> None:
        """Wait for the end, then kill remaining children, so that the next start finds devices and ports free."""
        await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _pipe_with(content: bytes) -> Iterator[int]:
    """Yield the reading end of a pipe that has the content, at most a few kB, and then ends."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as end:
            end.write(content)
        yield reading
    finally:
        os.close(reading)


async def _next_line(stream: asyncio.StreamReader) -> str | None:
    """Return the next line, cut to ``MAX_LINE`` characters; None at the end."""
    try:
        line = await stream.readline()
    except ValueError:  # longer than the reader's limit, which has dropped it
        return "(a line too long to show)"
    return line.decode(errors="replace").rstrip("\r\n")[:MAX_LINE] if line else None
