"""Worker processes: launched, watched, started again with back-off, stopped; their output goes onto the log topic."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heliograph.bus.contract.payloads import Task
from heliograph.core.child_process import die_with_parent
from heliograph.core.tasks import Flag, wait_for
from heliograph.core.world import Process, World
from heliograph.edge_agent.reconcile import Running, State

BACKOFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the first, second, … start again; the last one repeats."""
STEADY_AFTER = 60.0
"""A worker that ran so long begins the back-off anew."""
GRACE = 5.0
"""Seconds that a worker is given to finish, and then to obey SIGTERM."""
_MODULES = {
    "train": "heliograph.workers.train",
    "evaluate": "heliograph.workers.train",
    "aggregate": "heliograph.workers.aggregation.worker",
    "infer": "heliograph.workers.infer",
    "big-model": "heliograph.workers.infer",
}


@dataclass(frozen=True)
class Limits:
    """What a worker process may use; 0 is no limit. ``memory_mb`` bounds its private memory (RLIMIT_DATA)."""

    memory_mb: int = 0
    nice: int = 0


@dataclass
class Worker:
    """One launched worker."""

    task: Task
    secret: bytes
    state: State = "starting"
    assigned: Task | None = None
    process: Process | None = None
    restarts: int = 0
    detail: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    watching: asyncio.Task[None] | None = None
    ended: Flag = field(default_factory=Flag)

    def seen(self) -> Running:
        return Running(self.task.worker, self.task.job_uid, self.state, self.assigned, self.task)


class Supervisor:
    """Runs one node's workers.

    Args:
        environment: what each worker needs to find its node's broker.
        changed: called when a worker's state has changed.
        logged: called with (worker, level, line) for each line a worker prints, and when it ends unasked.
    """

    def __init__(
        self,
        world: World,
        directory: Path,
        environment: dict[str, str],
        limits: Limits,
        changed: Callable[[], None],
        logged: Callable[[str, Literal["info", "warning"], str], None],
    ) -> None:
        self._world = world
        self._directory = directory
        self._environment = environment
        self._limits = limits
        self._changed = changed
        self._logged = logged
        self.workers: dict[str, Worker] = {}

    def launch(self, task: Task) -> None:
        """Starts a worker for the task; what it prints and how it ends is watched."""
        worker = Worker(task, self._world.new_secret())
        self.workers[task.worker] = worker
        worker.watching = asyncio.create_task(self._watch(worker))

    async def stop(self, name: str, finish: Callable[[Worker], None]) -> None:
        """Asks a worker to finish (``finish`` tells it), then SIGTERM, then SIGKILL."""
        worker = self.workers[name]
        worker.state = "stopping"
        finish(worker)
        if worker.process is None:
            assert worker.watching is not None
            worker.watching.cancel()
        elif not await wait_for(worker.ended, GRACE):
            await self._end(worker)
        self.workers.pop(name, None)
        self.sweep(self.workers)
        self._changed()

    async def close(self) -> None:
        """Stops all at once, without grace for their work."""
        for worker in self.workers.values():
            worker.state = "stopping"
            if worker.process is None and worker.watching is not None:
                worker.watching.cancel()
        await asyncio.gather(*(self._end(worker) for worker in self.workers.values() if worker.process is not None))
        self.workers.clear()

    def said(self, name: str, state: str, detail: str) -> None:
        """What a worker said of itself."""
        worker = self.workers.get(name)
        if worker is None or worker.state == "stopping":
            return
        if state == "hello":
            worker.state = "ready"
            worker.assigned = None  # it begins anew, or missed something: hand it its task again
        elif state == "failed":
            worker.detail = detail
        self._changed()

    def forget_assignments(self) -> None:
        """Whether a worker has heard its task is not known any more; one it has already it passes over."""
        for worker in self.workers.values():
            worker.assigned = None

    def sweep(self, wanted: Collection[str]) -> None:
        """Drops what workers that are not wanted any more had fetched, where they were killed before they could.

        What they have written stays: it may still have to be uploaded.
        """
        for directory in self._directory.glob("*/updates"):
            if directory.parent.name not in wanted and directory.parent.name not in self.workers:
                shutil.rmtree(directory, ignore_errors=True)

    def services(self) -> set[str]:
        """The services whose workers answer on this node."""
        return {each.task.job for each in self.workers.values() if each.task.role == "infer" and each.state == "ready"}

    def directory_of(self, name: str) -> Path:
        return self._directory / name

    async def _end(self, worker: Worker) -> None:
        assert worker.process is not None
        _signal(worker.process.terminate)
        if not await wait_for(worker.ended, GRACE):
            _signal(worker.process.kill)
            await worker.ended.wait()

    async def _watch(self, worker: Worker) -> None:
        failed_in = worker.task.round
        while True:
            began = self._world.monotonic()
            code = await self._run(worker)
            if worker.state == "stopping":
                break
            if self._world.monotonic() - began > STEADY_AFTER or worker.task.round != failed_in:
                worker.restarts = 0  # it has got further since
            failed_in = worker.task.round
            wait = BACKOFF[min(worker.restarts, len(BACKOFF) - 1)]
            worker.restarts += 1
            worker.state = "backing-off"
            worker.assigned = None
            last = worker.detail or next((line for line in reversed(worker.tail) if line.strip()), "no output")
            worker.detail = f"exit code {code}: {last}"[:1000]
            self._logged(worker.task.worker, "warning", f"ended with {worker.detail}; starts again in {wait:g} s")
            self._changed()
            await self._world.sleep(wait)
            worker.detail = ""
            worker.state = "starting"
            worker.secret = self._world.new_secret()
        worker.ended.set()

    async def _run(self, worker: Worker) -> int:
        directory = self.directory_of(worker.task.worker)
        directory.mkdir(parents=True, exist_ok=True)
        environment = self._environment | {
            "HELIOGRAPH_WORKER": worker.task.worker,
            "HELIOGRAPH_SECRET": worker.secret.hex(),
            "HELIOGRAPH_DIRECTORY": str(directory),
            "PYTHONUNBUFFERED": "1",
        }
        limits = self._limits

        def before() -> None:
            die_with_parent()
            if limits.memory_mb:
                resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_mb << 20, limits.memory_mb << 20))
            if limits.nice:
                os.nice(limits.nice)

        try:
            worker.process = await self._world.spawn(
                [sys.executable, "-m", _MODULES[worker.task.role]], env=environment, cwd=str(directory), before=before
            )
        except OSError as error:
            worker.detail = str(error)
            return -1
        assert worker.process.stdout is not None
        async for line in _lines(worker.process.stdout):
            worker.tail.append(line)
            self._logged(worker.task.worker, "info", line)
        code = await worker.process.wait()
        worker.process = None if worker.state != "stopping" else worker.process
        return code


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of at most 64 kB; what is longer is cut, not kept."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than the reader's limit, which has dropped it
            yield "(a line too long to show)"
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip("\r\n")[:65536]


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except ProcessLookupError:
        return
