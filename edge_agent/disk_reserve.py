"""Room on the disk that is kept for the moment when it is full: to drop events takes some, too."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

SIZE = 4 << 20
"""Bytes: SQLite's log has about so many when it is moved into the main file."""
LEAST = 64 << 20
"""Free bytes with which the room is set aside, and with which a full disk counts as having room again."""


class DiskReserve:
    """A file beside the journal that is deleted when the disk is full.

    Args:
        journal: the journal's file; one that is not on a disk has no reserve.
    """

    def __init__(self, journal: Path) -> None:
        self._file = journal.with_name(f"{journal.name}.reserve")
        self._on_disk = journal.exists()
        self.missing = True
        """Whether no room is set aside: the disk was full, and has not got ``LEAST`` bytes since."""

    def take(self) -> bool:
        """Set the room aside where it is missing and the disk has enough; return whether it has been."""
        if not self.missing or not self._on_disk or shutil.disk_usage(self._file.parent).free < LEAST:
            return False
        self.missing = not self._allocate(SIZE)
        return not self.missing

    def keep_rest(self) -> None:
        """Set aside again what a full disk has left, for the next time."""
        if self._on_disk:
            any(self._allocate(size) for size in (SIZE, SIZE // 2, SIZE // 4))

    def _allocate(self, size: int) -> bool:
        with contextlib.suppress(OSError):
            made = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(made, 0, size)
                return True
            except OSError:
                os.ftruncate(made, 0)
            finally:
                os.close(made)
        return False

    def release(self) -> None:
        """Give the room back to the disk."""
        self.missing = True
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)


def is_full(error: sqlite3.Error) -> bool:
    """Return whether an error says that the disk has no room."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
