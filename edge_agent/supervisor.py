"""Run a node's workers: launch and watch them, restart them with back-off, stop them, and log their lines.

The launcher decides how a worker runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from heliograph.bus.contract import payloads
from heliograph.bus.contract.payloads import WorkerState
from heliograph.core.tasks import cancel_and_wait, wait_for
from heliograph.core.telemetry import WORKERS_LAUNCHED
from heliograph.core.world import World
from heliograph.edge_agent.launcher import Launcher, LaunchFailed, LaunchRequest
from heliograph.edge_agent.node_capacity import visible_gpus
from heliograph.edge_agent.reconcile import State
from heliograph.edge_agent.supervised_worker import Worker

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask
    from heliograph.edge_agent.worker_logins import WorkerLogins

BACKOFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the first, second, … start again; the last one repeats."""
STEADY_AFTER = 60.0
"""Seconds of running after which the back-off starts at its first value again."""
GRACE = 5.0
"""Seconds that a worker has to finish its job, and then again to end after ``terminate``."""
AFTER_LOOP = 600.0
"""Seconds that a script which has left its loop has for the code after it, once its job has ended."""


class Supervisor:
    """Runs one node's workers.

    Args:
        environment: variables by which each worker finds its node's broker.
        models: directory of the node's models, named by digest.
        code: returns the directories below which the code of a task's worker lies.
        changed: called when a worker's state has changed.
        logged: called with (worker, level, line) for each line that a worker prints, and when it ends by itself.
        working_directory: returns the directory whose files a task's script finds by relative names.
        code_digest: returns the digest of the code of a task's script. It reads files, and is called in a thread.
        data: returns the files of a task's data sets.
        signing_secret: returns the secret of the key by which a task's worker signs for the cloud; empty for none.
        logins: gives each launch a login of its own; None where all have that of the environment's URL.
    """

    def __init__(
        self,
        world: World,
        launcher: Launcher,
        environment: Mapping[str, str],
        models: Path,
        code: Callable[[WorkerTask], tuple[Path, ...]],
        changed: Callable[[], None],
        logged: Callable[[str, Literal["info", "warning"], str], None],
        working_directory: Callable[[WorkerTask], Path | None] = lambda task: None,
        code_digest: Callable[[WorkerTask], str] = lambda task: "",
        data: Callable[[WorkerTask], tuple[Path, ...]] = lambda task: (),
        signing_secret: Callable[[WorkerTask], bytes] = lambda task: b"",
        logins: WorkerLogins | None = None,
    ) -> None:
        self._world = world
        self._launcher = launcher
        self._environment = environment
        self._models = models
        self._code = code
        self._changed = changed
        self._logged = logged
        self._working_directory = working_directory
        self._code_digest = code_digest
        self._data = data
        self._signing_secret = signing_secret
        self._logins = logins
        self.workers: dict[str, Worker] = {}

    def launch(self, task: WorkerTask, gpus: tuple[str, ...] = ()) -> None:
        """Start a worker for the task, and watch it. It sees only these GPUs if there are any, else all."""
        worker = Worker(task, self._world.new_secret(), gpus=gpus)
        self.workers[task.worker] = worker
        worker.watching = asyncio.create_task(self._watch(worker))

    async def stop(self, name: str, finish: Callable[[Worker], None]) -> None:
        """Stop a worker: ``finish`` assigns it the end of its job, then terminate it, then kill it.

        A script that has left its loop has ``AFTER_LOOP`` for the code after it, unless it is hurried. Return at once
        where the worker is stopping already.
        """
        worker = self.workers.get(name)
        if worker is None or worker.state == "stopping":
            return
        without_process, worker.state = worker.state in ("backing-off", "failed", "finished"), "stopping"
        finish(worker)
        if without_process:
            await self._cancel_watch(worker)
        elif not await wait_for(worker.ended, GRACE) and not await self._ended_after_loop(worker):
            await self._end(worker)
        self._forget(name)

    async def evict(self, name: str) -> None:
        """End a worker whose place another one takes, without time for its work: it begins its task again when it is
        started next. Return at once where the worker is stopping already."""
        worker = self.workers.get(name)
        if worker is None or worker.state == "stopping":
            return
        worker.state = "stopping"
        self._logged(name, "info", "gives up its place on this node to a worker that comes first")
        await self._end(worker)
        self._forget(name)

    def hurry(self, name: str) -> None:
        """Give a worker that is being stopped no more time: its name is needed for the next job's worker."""
        if name in self.workers:
            self.workers[name].hurried.set()

    async def close(self) -> None:
        """Stop all workers at once, without time to finish their work."""
        for worker in self.workers.values():
            worker.state = "stopping"
        await asyncio.gather(*(self._end(worker) for worker in self.workers.values()))
        self.workers.clear()

    def take_state(self, name: str, reported: WorkerState) -> None:
        """Take a state that a worker reports."""
        worker = self.workers.get(name)
        if worker is None:
            return
        if reported.state == "failed":
            worker.note_failure(reported.detail, reported.final)
        elif reported.state == "left":
            worker.left_in = worker.task.revision if reported.round is None else reported.round
        elif worker.state in ("starting", "ready"):  # from the process that runs
            worker.state = "ready"
            worker.assigned = None  # the worker has restarted or missed a message: assign its task again
        worker.told.set()
        if worker.state != "stopping":
            self._changed()

    def forget_assignments(self) -> None:
        """Let every worker be assigned its task again: some may have missed it. A worker ignores a repeated task."""
        for worker in self.workers.values():
            worker.assigned = None

    def services(self) -> set[str]:
        """Return the services whose workers answer on this node."""
        ready = [each.task for each in self.workers.values() if each.state == "ready"]
        return {task.job for task in ready if isinstance(task, payloads.InferTask)}

    def _forget(self, name: str) -> None:
        self.workers.pop(name, None)
        self._launcher.sweep(self.workers)
        self._changed()

    async def _ended_after_loop(self, worker: Worker) -> bool:
        """Wait for the code after a script's loop, where it has left its loop. Return whether the script has ended."""
        if worker.left_in is None:
            return False
        self._logged(
            worker.task.worker, "info",
            f"its job has ended and its script runs on: waits up to {AFTER_LOOP:g} s for the code after the loop",
        )  # fmt: skip
        hurried = asyncio.create_task(worker.hurried.wait())
        ended = asyncio.create_task(worker.ended.wait())
        try:
            await asyncio.wait((hurried, ended), timeout=AFTER_LOOP - GRACE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(hurried, ended)
        return worker.ended.is_set()

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
        """Restart the worker whenever it has ended, until it is stopped, has left its loop or fails for good."""
        failed_in = worker.task.revision
        while True:
            began = self._world.monotonic()
            ended = await self._run(worker)
            if worker.state == "stopping":
                if worker.failed:
                    self._warn(worker, f"ended after its job with {ended}: {worker.last_words()}")
                return
            if self._world.monotonic() - began > STEADY_AFTER or worker.task.revision != failed_in:
                worker.restarts = 0  # the worker has made progress since its last failure
            failed_in = worker.task.revision
            if self._rests(worker, ended) or not await self._back_off(worker, ended):
                return
            worker.begin_again(self._world.new_secret())

    async def _back_off(self, worker: Worker, ended: str) -> bool:
        """Wait before the next start. Return False where a late report of the ended process says that there is none."""
        wait = BACKOFF[min(worker.restarts, len(BACKOFF) - 1)]
        worker.restarts += 1
        detail = f"{ended}: {worker.last_words()}"
        worker.told.clear()
        self._warn(worker, f"ended with {detail}; starts again in {wait:g} s")
        self._rest(worker, "backing-off", detail)
        waiting = asyncio.ensure_future(self._world.sleep(wait))
        told = asyncio.ensure_future(worker.told.wait())
        try:
            while not waiting.done():
                await asyncio.wait((waiting, told), return_when=asyncio.FIRST_COMPLETED)
                if told.done():
                    worker.told.clear()
                    told = asyncio.ensure_future(worker.told.wait())
                    if self._rests(worker, ended):
                        return False
            return True
        finally:
            waiting.cancel()
            told.cancel()

    def _rests(self, worker: Worker, ended: str) -> bool:
        """Return whether the worker is not started again for now, and say so."""
        if worker.left_in is not None:
            detail = f"the script left its loop in round {worker.left_in}"
            if worker.failed or ended != "exit code 0":
                detail += f"; the code after it ended with {ended}: {worker.last_words()}"
                self._warn(worker, detail)
            self._rest(worker, "finished", detail)
            return True
        if not worker.fails_for_good:
            return False
        detail = f"{ended}: {worker.last_words()}"
        is_final = worker.final and not worker.task.has_new_samples
        again = "it has another script or other arguments" if is_final else "the next round"
        self._warn(worker, f"ended with {detail}; does not start again until {again}")
        self._rest(worker, "failed", detail)
        return True

    def _rest(self, worker: Worker, state: State, detail: str) -> None:
        """Note that a worker has no process."""
        worker.state, worker.detail, worker.assigned, worker.handle = state, detail[:1000], None, None
        self._changed()

    def _note_wait(self, worker: Worker, text: str) -> None:
        if worker.waits != text:
            worker.waits = text
            self._changed()

    def _warn(self, worker: Worker, line: str) -> None:
        self._logged(worker.task.worker, "warning", line[:1100])

    async def _run(self, worker: Worker) -> str:
        """Start the worker once and follow it to its end. Return a description of the end."""
        if self._logins is None:
            return await self._run_with(worker, "")
        hand = partial(self._launcher.hand_login, worker.task.worker)
        async with self._logins.of_launch(worker.task, hand) as login:
            return await self._run_with(worker, login)

    async def _run_with(self, worker: Worker, login: str) -> str:
        worker.tail.clear()
        task = worker.task
        pod = task.pod.identity if isinstance(task, payloads.ScriptTask) and task.pod is not None else ""
        gpus = {} if pod else visible_gpus(worker.gpus)  # a pod sees those that Kubernetes gives it
        request = LaunchRequest(
            task.worker, task.role, worker.secret + self._signing_secret(task), {**self._environment, **gpus},
            self._models, self._code(task), task.job, self._working_directory(task), self._data(task), login, pod,
            partial(self._note_wait, worker),
        )  # fmt: skip
        if isinstance(task, payloads.ScriptTask):
            worker.code = await self._world.in_thread(self._code_digest, task)
        try:
            handle = worker.handle = await self._launcher.launch(request)
        except LaunchFailed as error:
            worker.reported = str(error)
            return "not started"
        self._world.telemetry.counter(WORKERS_LAUNCHED, role=task.role)(1)
        if worker.state == "stopping":  # stopped while it was being launched
            await handle.terminate()
        if handle.lines is not None:
            async for line in handle.lines:
                worker.tail.append(line)
                self._logged(task.worker, "info", line)
        ended = await handle.wait()
        worker.waits = ""
        if worker.state != "stopping":
            worker.handle = None
        return ended
