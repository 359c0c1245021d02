"""Disks in memory: SQLite's files, which outlive the processes that open them.

A file lies there as its bytes, and has an SQLite connection only while it is in use: of ten thousand journals most are
idle, and a connection takes five times what an empty journal does.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

MOST_OPEN = 1024
"""Files that have a connection at the same time, unless transactions are open in more."""


class OpenFiles:
    """The files that have a connection, of all disks; the one that has had it the longest gives its own up."""

    def __init__(self) -> None:
        self._files: deque[_File] = deque()

    def open(self, file: _File) -> sqlite3.Connection:
        """Gives a file a connection."""
        connection = self._given_up() or sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=0
        )
        file.lay_into(connection)
        self._files.append(file)
        return connection

    def _given_up(self) -> sqlite3.Connection | None:
        if len(self._files) < MOST_OPEN:
            return None
        oldest = self._files.popleft()
        connection = oldest.given_up()
        if connection is None:  # a transaction is open in it
            self._files.append(oldest)
        return connection


class Disk:
    """A node's files."""

    def __init__(self, open_files: OpenFiles) -> None:
        self._open = open_files
        self._files: dict[str, _File] = {}

    def connect(self, path: Path) -> Any:
        """Opens the file of that path, made where it is missing."""
        return _Connection(self._files.get(str(path)) or self._files.setdefault(str(path), _File(self._open)))

    def file(self, name: str) -> sqlite3.Connection | None:
        """The file of that name, in whatever directory, as it is at this moment."""
        found = next((file for path, file in self._files.items() if Path(path).name == name), None)
        return found.connection() if found is not None else None

    def fill(self, full: bool) -> None:
        """From now on there is no room to write, or there is again."""
        for file in self._files.values():
            pages = file.connection().execute("PRAGMA page_count").fetchone()[0] if full else _UNBOUND
            file.bound(pages)


_UNBOUND = 1 << 30


class _File:
    """One file: its bytes, or the connection that has them."""

    __slots__ = ("_connection", "_content", "_most_pages", "_open")

    def __init__(self, open_files: OpenFiles) -> None:
        self._open = open_files
        self._content = _EMPTY
        self._connection: sqlite3.Connection | None = None
        self._most_pages = _UNBOUND

    def connection(self) -> sqlite3.Connection:
        """Good until the next file is asked for its own."""
        return self._connection or self._open.open(self)

    def lay_into(self, connection: sqlite3.Connection) -> None:
        """What the connection has is this file's content from now on."""
        connection.deserialize(self._content)
        self._content = b""
        self._connection = connection
        if self._most_pages != _UNBOUND:
            self.bound(self._most_pages)

    def given_up(self) -> sqlite3.Connection | None:
        """The connection, for another file; None where a transaction is open in it."""
        connection = self._connection
        if connection is None or connection.in_transaction:
            return None
        if self._most_pages != _UNBOUND:
            connection.execute(f"PRAGMA max_page_count = {_UNBOUND}")
        self._content = connection.serialize()
        self._connection = None
        return connection

    def bound(self, most_pages: int) -> None:
        """How large it may become."""
        self._most_pages = most_pages
        self.connection().execute(f"PRAGMA max_page_count = {most_pages}")


class _Connection:
    """One opening of a file: closing it leaves the file."""

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
    """A file without tables, of small pages that are given back: the defaults are made for one large file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:
        file.execute("PRAGMA page_size = 1024")
        file.execute("PRAGMA auto_vacuum = FULL")
        file.execute("VACUUM")
        return file.serialize()


_EMPTY = _empty()
