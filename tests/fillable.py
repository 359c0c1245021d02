"""A small disk that a test fills: a file system of its own in memory, where this machine lets the test make one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A small file system; ``path`` is for what the test stores, beside what fills it."""

    def __init__(self, mounted: Path) -> None:
        self._filler = mounted / "filler"
        self.path = mounted / "stored"
        self.path.mkdir()

    def fill(self, but: int = 0) -> None:
        """Leave no room but so many bytes."""
        filler = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    os.write(filler, bytes(size))
        if but:
            os.ftruncate(filler, max(0, os.fstat(filler).st_size - but))
        os.close(filler)

    def free(self) -> None:
        """Make room."""
        self._filler.unlink(missing_ok=True)

    def room(self) -> int:
        """Return the free bytes."""
        return shutil.disk_usage(self.path).free


@contextmanager
def fillable_disk(at: Path, size: int) -> Iterator[Disk]:
    """Mount a disk of ``size`` bytes. Skip the test where that takes rights that it has not."""
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(at)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"not run: no mount here ({error})")
    if made.returncode:
        pytest.skip(f"not run: no disk can be mounted here ({made.stderr.strip()})")
    try:
        yield Disk(at)
    finally:
        subprocess.run(["umount", "-l", str(at)], capture_output=True, check=False)
