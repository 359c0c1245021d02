"""Disks in memory: SQLite files that outlive the processes which open them.

A file is stored as bytes and has an SQLite connection only while it is in use. Most of ten thousand journals are idle,
and a connection takes five times the memory of an empty journal.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

MOST_OPEN = 1024
"""Largest number of files with a connection at the same time, unless more of them have an open transaction."""


class OpenFiles:
    """The files with a connection, on all disks. A new connection takes the place of the oldest."""

    def __init__(self) -> None:
        self._files: deque[_File] = deque()

    def open(self, file: _File) -> sqlite3.Connection:
        """Return a connection to a file."""
        connection = self._release_oldest() or sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=0
        )
        file.load_into(connection)
        self._files.append(file)
        return connection

    def _release_oldest(self) -> sqlite3.Connection | None:
        if len(self._files) < MOST_OPEN:
            return None
        oldest = self._files.popleft()
        connection = oldest.release()
        if connection is None:  # it has an open transaction
            self._files.append(oldest)
        return connection


class Disk:
    """The files of one node."""

    def __init__(self, open_files: OpenFiles) -> None:
        self._open = open_files
        self._files: dict[str, _File] = {}

    def connect(self, path: Path) -> Any:
        """Open the file at a path; create it if it does not exist."""
        return _Connection(self._files.get(str(path)) or self._files.setdefault(str(path), _File(self._open)))

    def file(self, name: str) -> sqlite3.Connection | None:
        """Return the file with that name, in any directory, in its present state."""
        found = next((file for path, file in self._files.items() if Path(path).name == name), None)
        return found.connection() if found is not None else None

    def fill(self, full: bool) -> None:
        """Fill the disk, so that writes fail, or free it again."""
        for file in self._files.values():
            pages = file.connection().execute("PRAGMA page_count").fetchone()[0] if full else _UNLIMITED
            file.limit_pages(pages)


_UNLIMITED = 1 << 30


class _File:
    """One file, stored as bytes or in its connection."""

    __slots__ = ("_connection", "_content", "_most_pages", "_open")

    def __init__(self, open_files: OpenFiles) -> None:
        self._open = open_files
        self._content = _EMPTY
        self._connection: sqlite3.Connection | None = None
        self._most_pages = _UNLIMITED

    def connection(self) -> sqlite3.Connection:
        """Return the file's connection; it is valid until the next file's connection is opened."""
        return self._connection or self._open.open(self)

    def load_into(self, connection: sqlite3.Connection) -> None:
        """Move the file's content into the connection."""
        connection.deserialize(self._content)
        self._content = b""
        self._connection = connection
        if self._most_pages != _UNLIMITED:
            self.limit_pages(self._most_pages)

    def release(self) -> sqlite3.Connection | None:
        """Return the connection for use by another file; None if it has an open transaction."""
        connection = self._connection
        if connection is None or connection.in_transaction:
            return None
        if self._most_pages != _UNLIMITED:
            connection.execute(f"PRAGMA max_page_count = {_UNLIMITED}")
        self._content = connection.serialize()
        self._connection = None
        return connection

    def limit_pages(self, most_pages: int) -> None:
        """Limit the size of the file, in pages."""
        self._most_pages = most_pages
        self.connection().execute(f"PRAGMA max_page_count = {most_pages}")


class _Connection:
    """One process's use of a file; the file outlives it."""

    __slots__ = ("_file",)

    def __init__(self, file: _File) -> None:
        self._file = file

    def execute(self, *args: Any) -> sqlite3.Cursor:
        return self._file.connection().execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        return self._file.connection().executemany(*args)

    def executescript(self, script: str) -> sqlite3.Cursor:
        return self._file.connection().executescript(script)

    @property
    def in_transaction(self) -> bool:
        return self._file.connection().in_transaction

    def close(self) -> None:
        return None


def _empty() -> bytes:
    """Return a file without tables. Its pages are small and freed after use, unlike the defaults for one large file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:
        file.execute("PRAGMA page_size = 1024")
        file.execute("PRAGMA auto_vacuum = FULL")
        file.execute("VACUUM")
        return file.serialize()


_EMPTY = _empty()
