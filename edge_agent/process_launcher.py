"""Launch workers as processes of this machine, with limits: read their output through a pipe, and exchange files in a
shared directory. No process that a worker has started outlives the worker or this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from subprocess import SubprocessError

from heliograph.core import orphans
from heliograph.core.child_process import PERMIT, SAFE_PATH, described_end, dying_with_parent, wait_for_exit
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import Process, World
from heliograph.edge_agent.confinement.cgroups import WorkerGroup
from heliograph.edge_agent.confinement.confiner import Confiner
from heliograph.edge_agent.confinement.site_policy import OPEN
from heliograph.edge_agent.confinement.worker_watch import WatchedWorker, WorkerWatch
from heliograph.edge_agent.launcher import SECRET_FILE, LaunchFailed, LaunchRequest, RunningWorker
from heliograph.edge_agent.outputs import Outputs, WorkingPlace, logged_lines
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.edge_agent.start_permits import StartPermits

MODULES = {
    "train": "heliograph.workers.train",
    "evaluate": "heliograph.workers.train",
    "learn": "heliograph.workers.learn",
    "pair": "heliograph.workers.pair",
    "aggregate": "heliograph.workers.aggregation.worker",
    "infer": "heliograph.workers.infer",
    "big-model": "heliograph.workers.infer",
}
"""The module that runs for each role."""
_MAKE_MODELS = ("aggregate",)
"""Roles whose workers write into the node's models; they run no script."""
_REFUSALS = ("Permission denied", "Operation not permitted")
_PERHAPS = (", after it was refused a file or an address: this node's site policy lets a worker reach its own code, "
            "model and data, and the node's broker")  # fmt: skip
OFFERS = "heliograph.workers.offers"
MAX_LINE = 65536
DRAIN = 0.5
"""Seconds in which output is still read after a process's end, where a child keeps its pipe open."""


class ProcessLauncher(SharedDirectory):
    """Starts workers as subprocesses, each with a directory of its name under ``directory``.

    Args:
        confiner: what workers may do on this machine; by default all that this process may.
        outputs: the directories in which workers with a script run; without them they run in their own directory.
        permits: permits to start them; by default those of this launcher alone.
    """

    def __init__(
        self, world: World, directory: Path, confiner: Confiner | None = None, outputs: Outputs | None = None,
        permits: StartPermits | None = None,
    ) -> None:  # fmt: skip
        super().__init__(directory)
        self._world = world
        self._confiner = confiner or Confiner()
        policy = self._confiner.policy
        self._watch = WorkerWatch(policy, directory, self._confiner.counts_processes, world) if policy != OPEN else None
        self._outputs = outputs
        self._permits = permits or StartPermits(directory / ".starts", world)
        self._id = world.new_id()
        self._launches = itertools.count(1)
        self._guard: Process | None = None
        self._starting_guard = asyncio.Lock()
        self._alive = -1
        """Writing end of the pipe by which the guard notices the end of this process."""

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        module = MODULES.get(request.role)
        if module is None:
            raise LaunchFailed(f"no worker runs for role {request.role}")
        directory = self.of(request.worker)
        variables = request.variables(str(directory), str(request.models), map(str, request.code))
        launch = f"{self._id}/{next(self._launches)}"
        try:
            await self._start_guard()
            place = await self._place_for(request)
            directory.mkdir(parents=True, exist_ok=True)
            if request.login:
                await self.hand_login(request.worker, request.login)
            own = [directory, *([place.directory] if place is not None else ())]
            writes = [*own, request.models] if request.role in _MAKE_MODELS else own
            confinement = await self._world.in_thread(self._confiner.confine, request, directory, writes)
        except (OSError, HeliographError) as error:
            raise LaunchFailed(str(error)) from None
        try:
            async with self._permit() as permit:
                with _pipe_with(request.secret.hex().encode()) as secret:
                    variables |= {SECRET_FILE: f"/dev/fd/{secret}", "PYTHONUNBUFFERED": "1", PERMIT: str(permit),
                                  orphans.VARIABLE: launch, **confinement.variables}  # fmt: skip
                    process = await self._spawn(module, variables, own[-1], _child_setup(confinement.enter),
                                                (secret, permit))  # fmt: skip
        except (OSError, HeliographError, SubprocessError) as error:  # such as: no descriptor is left for the pipe
            if confinement.group is not None:
                await confinement.group.end(self._world)
            raise LaunchFailed(str(error)) from None
        finally:
            confinement.close()
        return _RunningProcess(process, self._world, launch, place, self._watch, own, confinement.group)

    async def offers(self) -> bytes:
        async with self._permit():
            if (known := self._permits.known_offers()) is not None:
                return known
            process = await self._spawn(OFFERS, {}, self.directory, dying_with_parent())
            assert process.stdout is not None
            text = await process.stdout.read()
            if await process.wait() == 0:
                self._permits.share_offers(text)
            return text

    @contextlib.asynccontextmanager
    async def _permit(self) -> AsyncIterator[int]:
        """Yield the descriptor of a permit. A process that has inherited it keeps the permit."""
        try:
            permit = await self._permits.take()
        except OSError as error:
            raise LaunchFailed(f"no worker can be started: {error}") from None
        try:
            yield permit
        finally:
            os.close(permit)

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

    async def _place_for(self, request: LaunchRequest) -> WorkingPlace | None:
        if self._outputs is None or request.working_directory is None:
            return None
        prepare = self._outputs.prepare
        place: WorkingPlace = await self._world.in_thread(
            prepare, request.job, request.worker, request.working_directory
        )
        return place

    async def _start_guard(self) -> None:
        """Start the process that ends the workers and what they have started when this process is gone."""
        async with self._starting_guard:
            if self._guard is not None and self._guard.returncode is None:
                return
            reading, self._alive = os.pipe()
            try:
                self._guard = await self._world.spawn(
                    [sys.executable, "-I", "-S", orphans.__file__, str(reading), f"{orphans.VARIABLE}={self._id}/"],
                    env={}, cwd="/", inherited=(reading,),
                )  # fmt: skip
            finally:
                os.close(reading)


def _child_setup(enter: Callable[[], None]) -> Callable[[], None]:
    # by SIGKILL: nobody is left who would end a worker whose script handles SIGTERM
    die_with_parent = dying_with_parent(signal.SIGKILL)

    def before() -> None:
        enter()
        die_with_parent()  # last: who becomes another user forgets the signal

    return before


class _RunningProcess:
    def __init__(
        self, process: Process, world: World, launch: str, place: WorkingPlace | None, watch: WorkerWatch | None,
        own: Sequence[Path], group: WorkerGroup | None,
    ) -> None:  # fmt: skip
        self._process = process
        self._group = group
        self._world = world
        self._launch = launch
        self._place = place
        self._watch = watch
        self._watched = WatchedWorker(process.pid, own)
        self._was_refused = False
        if watch is not None:
            watch.add(self._watched)

    @property
    def lines(self) -> AsyncIterator[str]:
        return self._lines() if self._place is None else logged_lines(self._place, self._lines(), self._world)

    async def wait(self) -> str:
        ended = described_end(await self._process.wait())
        if self._group is not None and self._group.why:
            return self._group.why
        return self._watched.why or f"{ended}{_PERHAPS if self._was_refused else ''}"

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
                    await ended
                    return
                self._was_refused |= self._watch is not None and any(each in line for each in _REFUSALS)
                yield line
                following = asyncio.ensure_future(_next_line(self._process.stdout))
        finally:
            await cancel_and_wait(ended, following)

    async def _end(self) -> None:
        """Wait for the end, then kill what it has left, so that the next start finds devices and ports free."""
        await wait_for_exit(self._process.pid)
        if self._watch is not None:
            await self._watch.remove(self._watched)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        if self._group is not None:
            await self._group.end(self._world)
        await self._world.in_thread(orphans.end_launched, self._launch)


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
    if not line:
        return None
    shown = line.decode(errors="replace").rstrip("\r\n")
    return shown.rpartition("\r")[2][:MAX_LINE]  # as a terminal shows it: a progress bar overwrites its line
