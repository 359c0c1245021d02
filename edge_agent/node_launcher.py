"""The launcher of a node: a worker whose task names an image is a pod, every other one a process."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from heliograph.edge_agent.launcher import Launcher, LaunchRequest, RunningWorker


class NodeLauncher:
    """Chooses between processes and pods; both see the node's files at the node's own paths."""

    def __init__(self, processes: Launcher, pods: Launcher) -> None:
        self._processes = processes
        self._pods = pods
        self._in_pods: set[str] = set()

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        if request.pod:
            self._in_pods.add(request.worker)
            return await self._pods.launch(request)
        self._in_pods.discard(request.worker)
        return await self._processes.launch(request)

    async def offers(self) -> bytes:
        return await self._processes.offers()

    async def staged(self, worker: str, digest: str) -> Path | None:
        return await self._pods.staged(worker, digest) or await self._processes.staged(worker, digest)

    async def discard(self, worker: str, digest: str) -> None:
        await self._pods.discard(worker, digest)
        await self._processes.discard(worker, digest)

    def sweep(self, wanted: Collection[str]) -> None:
        self._in_pods.intersection_update(wanted)
        self._pods.sweep(wanted)
        self._processes.sweep(wanted)

    async def hand_login(self, worker: str, text: str) -> None:
        await (self._pods if worker in self._in_pods else self._processes).hand_login(worker, text)

    def path_for(self, worker: str, path: Path) -> str:
        return self._processes.path_for(worker, path)
