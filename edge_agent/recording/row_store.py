"""The rows of one data set in SQLite: those that are in no finished segment yet, those that wait for their label, and
what the recording goes on with after a restart. One thread at a time calls it."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from heliograph.core.world import World

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    n INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, x BLOB NOT NULL, y REAL
);
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, time REAL NOT NULL, came REAL NOT NULL, x BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting_of ON waiting (device);
CREATE TABLE IF NOT EXISTS segments (first INTEGER PRIMARY KEY, end INTEGER, size INTEGER, newest REAL);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
"""
_BLOCK = 4096
"""Rows of one column that are packed together."""


class Segment(NamedTuple):
    """A finished file of rows: those from ``first``, counted from 0, to the one before ``end``.

    Attributes:
        size: bytes of the file.
        newest: time of its newest row.
    """

    first: int
    end: int
    size: int
    newest: float


class WaitingRow(NamedTuple):
    """A row that waits for its label; ``came`` is the agent's time when it was made."""

    id: int
    device: str
    time: float
    came: float
    x: bytes


class RowStore:
    """Raises sqlite3.Error where the disk is full, or the file damaged."""

    def __init__(self, file: Path, world: World) -> None:
        self._connection = world.database(file)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")  # what is noted as recorded, the journal forgets
            self._connection.execute("PRAGMA cache_size = -512")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def begin(self) -> None:
        self._do("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._do("COMMIT")

    def add(self, time: float, x: bytes, y: float | None) -> None:
        self._do("INSERT INTO rows (time, x, y) VALUES (?, ?, ?)", time, x, y)

    def wait(self, device: str, time: float, came: float, x: bytes) -> None:
        self._do("INSERT INTO waiting (device, time, came, x) VALUES (?, ?, ?, ?)", device, time, came, x)

    def waiting(self, device: str | None = None, came_until: float | None = None) -> list[WaitingRow]:
        """Return the waiting rows, oldest first: of a device, or those that have waited since ``came_until``."""
        where, values = ("device = ?", device) if device is not None else ("came <= ?", came_until)
        found = self._do(f"SELECT id, device, time, came, x FROM waiting WHERE {where} ORDER BY id", values)
        return [WaitingRow(*row) for row in found]

    def waits_no_more(self, ids: Iterable[int]) -> None:
        self._connection.executemany("DELETE FROM waiting WHERE id = ?", [(id,) for id in ids])

    def oldest_waiting(self, most: int) -> list[int]:
        return [row[0] for row in self._do("SELECT id FROM waiting ORDER BY id LIMIT ?", most)]

    def count_waiting(self) -> int:
        return int(self._do("SELECT COUNT(*) FROM waiting")[0][0])

    def first_waiting(self) -> float | None:
        """Return when the row came that waits longest; None where none waits."""
        found = self._do("SELECT came FROM waiting ORDER BY id LIMIT 1")
        return found[0][0] if found else None

    def tail(self, most: int) -> tuple[int, int, float]:
        """Return number of the first row that is in no segment, how many there are of it on, ``most`` at most, and the
        time of the newest of these."""
        first, count, newest = self._do(
            "SELECT MIN(n), COUNT(*), MAX(time) FROM (SELECT n, time FROM rows ORDER BY n LIMIT ?)", most
        )[0]
        return (first or 1) - 1, count, newest or 0.0

    def count_tail(self) -> int:
        return int(self._do("SELECT COUNT(*) FROM rows")[0][0])

    def xs(self, first: int, end: int) -> Iterator[bytes]:
        """Yield the rows from ``first`` to the one before ``end``."""
        for row in self._connection.execute("SELECT x FROM rows WHERE n > ? AND n <= ? ORDER BY n", (first, end)):
            yield row[0]

    def numbers(self, column: str, kind: str, first: int, end: int) -> Iterator[bytes]:
        """Yield the times or the labels of these rows in blocks, as ``array`` of that kind has them."""
        assert column in ("time", "y")
        found = self._connection.execute(f"SELECT {column} FROM rows WHERE n > ? AND n <= ? ORDER BY n", (first, end))
        while block := found.fetchmany(_BLOCK):
            yield array(kind, [int(row[0]) if kind == "q" else row[0] for row in block]).tobytes()

    def seal(self, segment: Segment) -> None:
        """Take note of a finished segment in place of its rows."""
        self._do("INSERT INTO segments VALUES (?, ?, ?, ?)", *segment)
        self.drop_tail(segment.end)

    def drop_tail(self, end: int) -> int:
        """Delete the rows before ``end``. Return their number."""
        return int(self._connection.execute("DELETE FROM rows WHERE n <= ?", (end,)).rowcount)

    def drop_tail_before(self, time: float) -> int:
        """Delete the rows before the first one of that time or later. Return their number."""
        begin = "SELECT MIN(n) FROM rows WHERE time >= ?"
        return int(self._connection.execute(f"DELETE FROM rows WHERE n < COALESCE(({begin}), {1 << 62})",
                                            (time,)).rowcount)  # fmt: skip

    def segments(self) -> list[Segment]:
        return [Segment(*row) for row in self._do("SELECT * FROM segments ORDER BY first")]

    def forget_segment(self, first: int) -> None:
        self._do("DELETE FROM segments WHERE first = ?", first)

    def load(self, key: str) -> bytes | None:
        found = self._do("SELECT value FROM state WHERE key = ?", key)
        return found[0][0] if found else None

    def load_all(self, prefix: str) -> list[tuple[str, bytes]]:
        """Return what is saved under keys that begin so, without that begin."""
        found = self._do("SELECT key, value FROM state WHERE key >= ? AND key < ?", prefix, f"{prefix}\U0010ffff")
        return [(key.removeprefix(prefix), value) for key, value in found]

    def save(self, key: str, value: bytes) -> None:
        self._do("INSERT OR REPLACE INTO state VALUES (?, ?)", key, value)

    def clear(self) -> None:
        """Delete all rows and what goes on; the numbers of rows go on all the same."""
        for table in ("rows", "waiting", "segments", "state"):
            self._do(f"DELETE FROM {table}")

    def _do(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()
