"""Run ``heliograph`` with a wrong clock; a file has the present error.

    python -m heliograph.simulations.faults.skewed OFFSET_FILE agent --name edge-1 …

The product is not aware of it: its imports find another ``time.time``. The monotonic clock stays right, as it does when
NTP or a person sets a node's clock.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("<d")


class Clock:
    """The file with the seconds by which a process's clock is ahead."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_OFFSET.pack(0.0))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _OFFSET.size)

    @property
    def offset(self) -> float:
        seconds: float = _OFFSET.unpack_from(self._map)[0]
        return seconds

    @offset.setter
    def offset(self, seconds: float) -> None:
        _OFFSET.pack_into(self._map, 0, seconds)


def main() -> None:
    clock = Clock(Path(sys.argv.pop(1)))
    right = time.time  # noqa: TID251 below World: the processes' World calls it
    time.time = lambda: right() + clock.offset  # noqa: TID251
    runpy.run_module("heliograph.cli.main", run_name="__main__")  # World keeps the clock that it finds


if __name__ == "__main__":
    main()
