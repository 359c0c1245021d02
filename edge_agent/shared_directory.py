"""Workers' files on the agent's own machine: each worker has a directory of its name, which both see."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from heliograph.core.private_files import write_private
from heliograph.core.worker_directory import EDGE_STATE, STAGED
from heliograph.edge_agent.launcher import LOGIN_FILE


class SharedDirectory:
    """``WorkerFiles`` where agent and workers see the same disk under the same paths."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def of(self, worker: str) -> Path:
        """Return a worker's own directory; it outlives the worker."""
        return self.directory / worker

    async def staged(self, worker: str, digest: str) -> Path | None:
        file = self._staged(worker, digest)
        return file if file.exists() else None

    async def discard(self, worker: str, digest: str) -> None:
        self._staged(worker, digest).unlink(missing_ok=True)

    def sweep(self, wanted: Collection[str]) -> None:
        for kept in (*self.directory.glob("*/updates"), *self.directory.glob(f"*/{EDGE_STATE}")):
            if kept.parent.name not in wanted:
                shutil.rmtree(kept, ignore_errors=True)

    async def hand_login(self, worker: str, text: str) -> None:
        file = self.of(worker) / LOGIN_FILE
        if text:  # another file takes its place: the right to the directory holds for it too
            write_private(file, text)
        else:
            file.unlink(missing_ok=True)

    def path_for(self, worker: str, path: Path) -> str:
        return str(path)

    def _staged(self, worker: str, digest: str) -> Path:
        return self.of(worker) / STAGED / digest
