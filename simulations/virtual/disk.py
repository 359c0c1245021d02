"""Disks in memory: SQLite's files, which outlive the processes that open them.

A file lies there as its bytes, and has an SQLite connection only while it is in use: of ten thousand journals most are
idle, and a connection takes five times what an empty journal does.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

MOST_OPEN = 1024
"""Files that have a connection at the same time, unless transactions are open in more."""


class OpenFiles:
    """The files that have a connection, of all disks; the one that was used the longest ago gives its own up."""

    def __init__(self) -> None:
        self._connections: dict[_File, sqlite3.Connection] = {}

    def of(self, file: _File) -> sqlite3.Connection:
        """The file's connection."""
        connection = self._connections.pop(file, None)
        if connection is None:
            connection = self._given_up() or sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False, cached_statements=0
            )
            file.lay_into(connection)
        self._connections[file] = connection
        return connection

    def _given_up(self) -> sqlite3.Connection | None:
        if len(self._connections) < MOST_OPEN:
            return None
        oldest = next(iter(self._connections))
        if self._connections[oldest].in_transaction:
            return None
        connection = self._connections.pop(oldest)
        oldest.content = connection.serialize()
        return connection


class Disk:
    """A node's files."""

    def __init__(self, open_files: OpenFiles) -> None:
        self._open = open_files
        self._files: dict[str, _File] = {}

    def connect(self, path: Path) -> Any:
        """Opens the file of that path, made where it is missing."""
        return _Connection(self._files.setdefault(str(path), _File()), self._open)

    def file(self, name: str) -> sqlite3.Connection | None:
        """The file of that name, in whatever directory, as it is at this moment."""
        found = next((file for path, file in self._files.items() if Path(path).name == name), None)
        return self._open.of(found) if found is not None else None

    def fill(self, full: bool) -> None:
        """From now on there is no room to write, or there is again."""
        for file in self._files.values():
            connection = self._open.of(file)
            file.most_pages = connection.execute("PRAGMA page_count").fetchone()[0] if full else _UNBOUND
            file.bound(connection)


_UNBOUND = 1 << 30


class _File:
    """One file.

    Attributes:
        content: what lies in it, where it has no connection.
        most_pages: how large it may become.
    """

    __slots__ = ("content", "most_pages")

    def __init__(self) -> None:
        self.content = _EMPTY
        self.most_pages = _UNBOUND

    def lay_into(self, connection: sqlite3.Connection) -> None:
        """The connection's content is the file's from now on."""
        connection.deserialize(self.content)
        self.content = b""
        self.bound(connection)

    def bound(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {self.most_pages}")


class _Connection:
    """One opening of a file: closing it leaves the file."""

    __slots__ = ("_file", "_open")

    def __init__(self, file: _File, open_files: OpenFiles) -> None:
        self._file = file
        self._open = open_files

    def execute(self, *args: Any) -> sqlite3.Cursor:
        return self._open.of(self._file).execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        return self._open.of(self._file).executemany(*args)

    def executescript(self, script: str) -> sqlite3.Cursor:
        return self._open.of(self._file).executescript(script)

    @property
    def in_transaction(self) -> bool:
        return self._open.of(self._file).in_transaction

    def close(self) -> None:
        return None


def _empty() -> bytes:
    """A file without tables, of small pages that are given back: the defaults are made for one large file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:
        file.execute("PRAGMA page_size = 1024")
        file.execute("PRAGMA auto_vacuum = FULL")
        file.execute("VACUUM")
        return file.serialize()


_EMPTY = _empty()
