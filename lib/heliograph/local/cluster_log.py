"""The log of a cluster on this machine: the lines that its processes print, in one file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TextIO

from heliograph.core.world import World


class ClusterLog:
    """A file of lines, each preceded by time and component; without a path it keeps none."""

    def __init__(self, path: Path | None, world: World) -> None:
        self._path = path
        self._world = world
        self._file: TextIO | None = None

    def open(self) -> None:
        if self._path is not None and self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._path.chmod(0o600)  # one that an earlier release has left
            self._file = self._path.open("w", buffering=1)

    def write(self, name: str, line: str) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk: a child whose lines nobody reads would stand still
                print(f"{self._world.timestamp()} {name}: {line}", file=self._file)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # the disk is full
                self._file.close()
            self._file = None
