"""A coordinator's or an agent's process on this machine, and the lines that it prints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.core.child_process import dying_with_parent
from heliograph.core.errors import HeliographError
from heliograph.core.world import Process, World

STOP_GRACE = 6.0
"""Seconds from SIGTERM to SIGKILL."""
LINES_KEPT = 500


@dataclass
class Child:
    """A process, which may be started again.

    Attributes:
        note: called with each line that it prints.
        lines: the newest lines.
        ready: set when the process reports that it is ready; cleared when a coordinator stands by.
        printed: set at each line; a waiter clears it first.
    """

    name: str
    argv: list[str]
    environment: dict[str, str]
    directory: Path
    world: World
    note: Callable[[str], None]
    process: Process | None = None
    lines: list[str] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    printed: asyncio.Event = field(default_factory=asyncio.Event)
    _reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process; it ends with this one."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HELIOGRAPH_")}
        self.ready.clear()
        self.process = await self.world.spawn(
            self.argv,
            env=environment | self.environment | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            cwd=str(self.directory),
            before=dying_with_parent(),
        )
        self._reading = asyncio.create_task(self._read(self.process))

    async def wait_ready(self, timeout: float) -> None:
        """Wait until the process reports that it is ready. Raise HeliographError with its last lines if it does not."""
        try:
            async with asyncio.timeout(timeout):
                await self.ready.wait()
        except TimeoutError:
            raise HeliographError(f"{self.name} was not ready after {timeout:g} s:\n{self._tail()}") from None

    async def wait_for_line(self, words: str, timeout: float, times: int = 1) -> str:
        """Wait until the process has printed ``words`` in as many lines as ``times``; return the last of these.

        Raise HeliographError with its last lines if it has not.
        """
        try:
            async with asyncio.timeout(timeout):
                while len(found := [line for line in self.lines if words in line]) < times:
                    self.printed.clear()
                    await self.printed.wait()
        except TimeoutError:
            raise HeliographError(
                f"{self.name} did not print {words!r} within {timeout:g} s:\n{self._tail()}"
            ) from None
        return found[times - 1]

    async def stop(self) -> None:
        """Ask the process to end; kill it and its own children where it does not."""
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(STOP_GRACE):
                    await self.process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):  # it has just ended, which a starved loop has not noticed
                    os.killpg(self.process.pid, signal.SIGKILL)
                await self.process.wait()
        if self._reading is not None:
            await self._reading

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            del self.lines[:-LINES_KEPT]
            if line.endswith("is ready"):
                self.ready.set()
            elif line.startswith("coordinator stands by"):
                self.ready.clear()
            self.printed.set()
            self.note(line)

    def _tail(self) -> str:
        return "\n".join(self.lines[-8:])
