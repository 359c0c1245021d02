"""Run a node's workers: launch and watch them, restart them with back-off, stop them, and log their lines.

The launcher decides how a worker runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heliograph.bus.contract.payloads import InferTask, WorkerTask
from heliograph.core.tasks import Flag, cancel_and_wait, wait_for
from heliograph.core.telemetry import WORKERS_LAUNCHED
from heliograph.core.world import World
from heliograph.edge_agent.launcher import Launcher, LaunchFailed, LaunchRequest, RunningWorker
from heliograph.edge_agent.reconcile import Running, State

BACKOFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the first, second, … start again; the last one repeats."""
STEADY_AFTER = 60.0
"""Seconds of running after which the back-off starts at its first value again."""
GRACE = 5.0
"""Seconds that a worker has to finish its job, and then again to end after ``terminate``."""


@dataclass
class Worker:
    """One worker over all its starts; ``handle`` is set while it runs."""

    task: WorkerTask
    secret: bytes
    state: State = "starting"
    assigned: WorkerTask | None = None
    handle: RunningWorker | None = None
    restarts: int = 0
    detail: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    watching: asyncio.Task[None] | None = None
    ended: Flag = field(default_factory=Flag)

    def as_running(self) -> Running:
        return Running(self.task.worker, self.task.job_uid, self.state, self.assigned, self.task)


class Supervisor:
    """Runs one node's workers.

    Args:
        environment: variables by which each worker finds its node's broker.
        models: directory of the node's models, named by digest.
        code: directories below which the workers' code lies.
        changed: called when a worker's state has changed.
        logged: called with (worker, level, line) for each line that a worker prints, and when it ends by itself.
    """

    def __init__(
        self,
        world: World,
        launcher: Launcher,
        environment: Mapping[str, str],
        models: Path,
        code: Sequence[Path],
        changed: Callable[[], None],
        logged: Callable[[str, Literal["info", "warning"], str], None],
    ) -> None:
        self._world = world
        self._launcher = launcher
        self._environment = environment
        self._models = models
        self._code = tuple(code)
        self._changed = changed
        self._logged = logged
        self.workers: dict[str, Worker] = {}

    def launch(self, task: WorkerTask) -> None:
        """Start a worker for the task, and watch it."""
        worker = Worker(task, self._world.new_secret())
        self.workers[task.worker] = worker
        worker.watching = asyncio.create_task(self._watch(worker))

    async def stop(self, name: str, finish: Callable[[Worker], None]) -> None:
        """Stop a worker: ``finish`` assigns it the end of its job, then terminate it, then kill it.

        Return at once where it is stopping already.
        """
        worker = self.workers.get(name)
        if worker is None or worker.state == "stopping":
            return
        waits, worker.state = worker.state == "backing-off", "stopping"
        finish(worker)
        if waits:
            await self._cancel_watch(worker)
        elif not await wait_for(worker.ended, GRACE):
            await self._end(worker)
        self.workers.pop(name, None)
        self._launcher.sweep(self.workers)
        self._changed()

    async def close(self) -> None:
        """Stop all workers at once, without time to finish their work."""
        for worker in self.workers.values():
            worker.state = "stopping"
        await asyncio.gather(*(self._end(worker) for worker in self.workers.values()))
        self.workers.clear()

    def take_state(self, name: str, state: str, detail: str) -> None:
        """Take a state that a worker reports: ``hello`` or ``failed``."""
        worker = self.workers.get(name)
        if worker is None or worker.state == "stopping":
            return
        if state == "hello":
            if worker.state == "backing-off":
                return  # from the process that has ended; the next one sends its own
            worker.state = "ready"
            worker.assigned = None  # the worker has restarted or missed a message: assign its task again
        elif state == "failed":
            worker.detail = detail
        self._changed()

    def forget_assignments(self) -> None:
        """Let every worker be assigned its task again: some may have missed it. A worker ignores a repeated task."""
        for worker in self.workers.values():
            worker.assigned = None

    def services(self) -> set[str]:
        """Return the services whose workers answer on this node."""
        ready = [each.task for each in self.workers.values() if each.state == "ready"]
        return {task.job for task in ready if isinstance(task, InferTask)}

    async def _end(self, worker: Worker) -> None:
        if worker.handle is None:
            await self._cancel_watch(worker)
            return
        await worker.handle.terminate()
        if not await wait_for(worker.ended, GRACE):
            await worker.handle.kill()
            await worker.ended.wait()

    async def _cancel_watch(self, worker: Worker) -> None:
        """Stop watching a worker without a process: it waits for its next start, or is being started."""
        if worker.watching is not None:
            await cancel_and_wait(worker.watching)

    async def _watch(self, worker: Worker) -> None:
        try:
            await self._restart_until_stopped(worker)
        finally:
            worker.ended.set()

    async def _restart_until_stopped(self, worker: Worker) -> None:
        """Restart the worker whenever it has ended, until it is stopped."""
        failed_in = worker.task.revision
        while True:
            began = self._world.monotonic()
            ended = await self._run(worker)
            if worker.state == "stopping":
                return
            if self._world.monotonic() - began > STEADY_AFTER or worker.task.revision != failed_in:
                worker.restarts = 0  # the worker has made progress since its last failure
            failed_in = worker.task.revision
            wait = BACKOFF[min(worker.restarts, len(BACKOFF) - 1)]
            worker.restarts += 1
            worker.state = "backing-off"
            worker.assigned = None
            last = worker.detail or next((line for line in reversed(worker.tail) if line.strip()), "no output")
            worker.detail = f"{ended}: {last}"[:1000]
            self._logged(worker.task.worker, "warning", f"ended with {worker.detail}; starts again in {wait:g} s")
            self._changed()
            await self._world.sleep(wait)
            worker.detail = ""
            worker.state = "starting"
            worker.secret = self._world.new_secret()

    async def _run(self, worker: Worker) -> str:
        """Start the worker once and follow it to its end. Return a description of the end."""
        worker.tail.clear()
        task = worker.task
        request = LaunchRequest(task.worker, task.role, worker.secret, self._environment, self._models, self._code)
        try:
            handle = worker.handle = await self._launcher.launch(request)
        except LaunchFailed as error:
            worker.detail = str(error)
            return "not started"
        self._world.telemetry.counter(WORKERS_LAUNCHED, role=task.role)(1)
        if worker.state == "stopping":  # stopped while it was being launched
            await handle.terminate()
        if handle.lines is not None:
            async for line in handle.lines:
                worker.tail.append(line)
                self._logged(task.worker, "info", line)
        ended = await handle.wait()
        if worker.state != "stopping":
            worker.handle = None
        return ended
