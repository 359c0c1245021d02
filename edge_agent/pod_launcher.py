"""Launch workers in pods of this node. The operator makes the pods' Jobs, and Kubernetes starts them; this agent hands
a worker to the pod that comes by its door, and never asks Kubernetes.

Agent and pod share one directory per worker, ``<directory>/<worker>``, at the same path in both.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from heliograph.core.child_process import described_end
from heliograph.core.errors import HeliographError
from heliograph.core.pod_channel import MAX_LINE, SECRET
from heliograph.core.private_files import make_private, write_private
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.worker_directory import STAGED
from heliograph.core.world import World
from heliograph.edge_agent.launcher import LaunchFailed, LaunchRequest, RunningWorker
from heliograph.edge_agent.outputs import Outputs, WorkingPlace, logged_lines
from heliograph.edge_agent.pod_door import PodConnection, PodDoor
from heliograph.edge_agent.process_launcher import MODULES
from heliograph.edge_agent.shared_directory import SharedDirectory

SOON = 5.0
"""Seconds after which a worker whose pod has not come is reported as waiting for it."""
KILL_WITHIN = 5.0
"""Seconds after which a pod that does not obey is let go: without its agent it ends the worker by itself."""
OUTPUTS = "outputs"
"""Name of the directory in a worker's own one below which it runs, as ``<job>/<worker>``."""


class PodLauncher(SharedDirectory):
    """Hands workers to pods.

    Args:
        private: directories that are never laid into a worker's working directory.
        packages: the directory below a private one whose directories are laid even so.
        soon, kill_within: see ``SOON`` and ``KILL_WITHIN``.
    """

    def __init__(
        self, world: World, directory: Path, private: Collection[Path] = (), packages: Path | None = None,
        soon: float = SOON, kill_within: float = KILL_WITHIN,
    ) -> None:  # fmt: skip
        super().__init__(directory)
        self._world = world
        self._private = tuple(private)
        self._packages = packages
        self._soon = soon
        self._kill_within = kill_within
        self._doors: dict[str, PodDoor] = {}

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        module = MODULES.get(request.role)
        if module is None:
            raise LaunchFailed(f"no worker runs for role {request.role}")
        directory = self.of(request.worker)
        outputs = directory / OUTPUTS
        runs_in = outputs / request.job / request.worker
        try:
            make_private(directory)
            door = await self._door(request)
            for each in (outputs, runs_in.parent, runs_in):
                if each.is_symlink():  # a pod has put it there: this agent would write where it leads
                    each.unlink()
            place = await self._place_for(request, outputs)
            runs_in.mkdir(mode=0o700, parents=True, exist_ok=True)
            if request.login:
                await self.hand_login(request.worker, request.login)
        except (OSError, HeliographError) as error:
            raise LaunchFailed(str(error)) from None
        variables = request.variables(str(directory), str(request.models), map(str, request.code))
        launch = {"module": module, "environment": variables, "directory": str(runs_in)}
        return _PodWorker(request, door, directory, launch, place, self._world, self._soon, self._kill_within)

    async def offers(self) -> bytes:
        raise LaunchFailed("a pod is no place to ask for offers; the agent's own installation has them")

    def sweep(self, wanted: Collection[str]) -> None:
        """Also let the pods of other workers go, and take away what was laid out for them."""
        super().sweep(wanted)
        if not self.directory.is_dir():
            return
        for directory in self.directory.iterdir():
            if directory.name not in wanted and directory.is_dir():
                self._clear(directory)

    def _clear(self, directory: Path) -> None:
        """Take away all but what the worker has staged, and what its script has written; an empty directory goes."""
        if (door := self._doors.pop(directory.name, None)) is not None:
            door.close()
        with contextlib.suppress(OSError):
            for entry in directory.iterdir():
                if entry.name in (STAGED, OUTPUTS) and not entry.is_symlink():
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
        jobs = [each for each in (directory / OUTPUTS).glob("*") if not each.is_symlink()]
        for empty in (*(below for each in jobs for below in each.glob("*")), *jobs,
                      directory / OUTPUTS, directory / STAGED, directory):  # fmt: skip
            with contextlib.suppress(OSError):
                empty.rmdir()

    async def _door(self, request: LaunchRequest) -> PodDoor:
        door = self._doors.get(request.worker)
        if door is None:
            door = PodDoor(self.of(request.worker), request.pod)
            await door.open()
            self._doors[request.worker] = door
        door.expect(request.pod)
        return door

    async def _place_for(self, request: LaunchRequest, outputs: Path) -> WorkingPlace | None:
        """Return the directory in which a script of the node runs, filled; None where the worker runs none."""
        if request.working_directory is None:
            return None
        prepare = Outputs(outputs, self._private, self._packages).prepare
        place: WorkingPlace = await self._world.in_thread(
            prepare, request.job, request.worker, request.working_directory
        )
        return place


class _PodWorker:
    """One launch: it waits for the pod, hands it the worker, and follows the worker to its end."""

    def __init__(
        self, request: LaunchRequest, door: PodDoor, directory: Path, launch: dict[str, Any],
        place: WorkingPlace | None, world: World, soon: float, kill_within: float,
    ) -> None:  # fmt: skip
        self._soon = soon
        self._kill_within = kill_within
        self._request = request
        self._door = door
        self._secret = directory / SECRET
        self._launch = launch
        self._place = place
        self._world = world
        self._pod: PodConnection | None = None
        self._printed: asyncio.Queue[str | None] = asyncio.Queue(256)
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._finish)  # also where it is cancelled before its first step
        self._end = "ended before its pod came"

    @property
    def lines(self) -> AsyncIterator[str]:
        return self._lines() if self._place is None else logged_lines(self._place, self._lines(), self._world)

    async def wait(self) -> str:
        await asyncio.wait((self._running,))
        return self._end

    async def terminate(self) -> None:
        if self._pod is not None:
            await self._pod.send({"signal": "terminate"})
        else:
            self._running.cancel()

    async def kill(self) -> None:
        if self._pod is not None:
            await self._pod.send({"signal": "kill"})
            await asyncio.wait((self._running,), timeout=self._kill_within)
        if not self._running.done():
            if self._pod is not None:
                self._pod.close()
            self._running.cancel()

    async def _lines(self) -> AsyncIterator[str]:
        while (line := await self._printed.get()) is not None:
            yield line
        await self.wait()

    async def _run(self) -> None:
        try:
            pod = await self._come()
            write_private(self._secret, self._request.secret.hex())
            self._pod, self._end = pod, "its pod was let go"
            await pod.send({"launch": self._launch})
            self._end = await self._follow(pod)
        except (OSError, HeliographError) as error:
            self._end = f"not started in its pod: {error}"

    def _finish(self, running: asyncio.Task[None]) -> None:
        """Let nothing of the launch stay, and end the lines."""
        self._request.waits("")
        with contextlib.suppress(OSError):
            self._secret.unlink(missing_ok=True)
        while self._printed.full():
            self._printed.get_nowait()
        self._printed.put_nowait(None)

    async def _follow(self, pod: PodConnection) -> str:
        async for message in pod.messages():
            if isinstance(line := message.get("line"), str):
                await self._printed.put(line[:MAX_LINE])
            elif isinstance(code := message.get("exit"), int):
                return described_end(code)
        return "its pod has ended"

    async def _come(self) -> PodConnection:
        """Wait for the pod. Say so where it does not come soon, and why one that came was not let in."""
        coming = asyncio.ensure_future(self._door.pod())
        try:
            await asyncio.wait((coming,), timeout=self._soon)
            while not coming.done():
                self._door.news.clear()
                self._request.waits(self._waiting())
                news = asyncio.ensure_future(self._door.news.wait())
                try:
                    await asyncio.wait((coming, news), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
            return await coming
        finally:
            await cancel_and_wait(coming)

    def _waiting(self) -> str:
        edge, worker = self._request.environment.get("HELIOGRAPH_EDGE", ""), self._request.worker
        labels = f"edgeai.io/edge={edge},edgeai.io/worker={worker}"
        why = self._door.problem or f"'kubectl describe pods -l {labels}' says why it does not come"
        return f"waiting for its pod: {why}"
