"""A temporary directory that outlives its process only until the next one looks: a kill leaves it behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from tempfile import TemporaryDirectory

_LOCK = ".lock"
_YOUNG = 3600.0
"""Seconds in which a directory without a lock may be one that is just being made."""


class OwnDirectory:
    """A temporary directory, locked while the process lives. Making one deletes those of ended processes.

    Args:
        prefix: beginning of the names of directories of this purpose.
        now: seconds since 1970.
    """

    def __init__(self, prefix: str, now: float) -> None:
        _sweep(prefix, now)
        self._directory = TemporaryDirectory(prefix=prefix)
        self.path = Path(self._directory.name)
        self._lock = (self.path / _LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Delete the directory."""
        self._lock.close()
        self._directory.cleanup()


def _sweep(prefix: str, now: float) -> None:
    """Delete this user's directories of that prefix which no process has locked."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            about = path.lstat()
            if path.is_symlink() or not path.is_dir() or about.st_uid != os.getuid():
                continue
            if not (path / _LOCK).exists():
                if now - about.st_mtime > _YOUNG:
                    shutil.rmtree(path, ignore_errors=True)
                continue
            with (path / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # its process lives, or another one sweeps it
            continue
