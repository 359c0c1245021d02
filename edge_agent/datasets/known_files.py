"""What is known of files that have not changed, in SQLite: their SHA-256, their content, and the data sets' versions.

A file counts as unchanged while device, inode, size and time of the last change (in ns) are the same. A file that has
changed within the last two seconds is read again: the clock of a file system may be coarser than its writers.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import stat_result
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.edge_agent.datasets.manifest import FileEntry

SETTLED = 2.0
"""Seconds after a file's last change until its content counts as known."""
COMMIT_EVERY = 500
"""Files after which what is known is committed: an interrupted index goes on from there."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    dataset TEXT, device INTEGER, inode INTEGER, reading TEXT, size INTEGER, mtime_ns INTEGER, sha256 TEXT,
    content TEXT, PRIMARY KEY (dataset, device, inode, reading)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifests (
    dataset TEXT, path TEXT, size INTEGER, sha256 TEXT, samples INTEGER, PRIMARY KEY (dataset, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (
    dataset TEXT PRIMARY KEY, version TEXT, parent TEXT, new_samples INTEGER, grown TEXT
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that has been read: its SHA-256, and what its form's reader told of it."""

    sha256: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """The newest version of a data set, with what it holds more than its parent."""

    version: str
    parent: str = ""
    new_samples: int = 0
    grown: tuple[Mapping[str, Any], ...] = ()


class KnownFiles:
    """The file ``path``, opened when it is first asked; one that is damaged is made anew. All methods may be called
    from any thread.

    Args:
        warn: called with a line where the file cannot be used; the data sets are then read without it.
    """

    def __init__(self, path: Path, world: World, warn: Callable[[str], None]) -> None:
        self._path = path
        self._world = world
        self._warn = warn
        self._lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None
        self._uncommitted = 0
        self._unusable = False

    def find(self, dataset: str, stat: stat_result, reading: str) -> KnownFile | None:
        """Return what is known of a file; None where it has changed, or was never read that way.

        Args:
            reading: how the file is read: its form, and what else its content depends on.
        """
        with self._lock:
            row = self._row(
                "SELECT size, mtime_ns, sha256, content FROM files WHERE dataset = ? AND device = ? AND inode = ? "
                "AND reading = ?", dataset, stat.st_dev, stat.st_ino, reading,
            )  # fmt: skip
        if row is None or row[:2] != (stat.st_size, stat.st_mtime_ns):
            return None
        with suppress(ValueError):
            content = json.loads(row[3])
            if isinstance(content, dict) and isinstance(row[2], str):
                return KnownFile(row[2], content)
        return None

    def remember(self, dataset: str, stat: stat_result, reading: str, found: KnownFile) -> None:
        """Note a file that has been read, unless it has changed just now."""
        if self._world.now() - stat.st_mtime < SETTLED:
            return
        with self._lock:
            self._write(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", dataset, stat.st_dev, stat.st_ino,
                reading, stat.st_size, stat.st_mtime_ns, found.sha256, json.dumps(found.content),
            )  # fmt: skip

    def entry(self, dataset: str, path: str) -> FileEntry | None:
        """Return a file of the newest version; None where it has none of that path."""
        with self._lock:
            row = self._row("SELECT size, sha256, samples FROM manifests WHERE dataset = ? AND path = ?", dataset,
                            _text(path))  # fmt: skip
        if row is None:
            return None
        from heliograph.edge_agent.datasets.manifest import FileEntry  # loaded with the readers of files

        return FileEntry(path, *row)

    def count(self, dataset: str) -> int:
        """Return the number of files of the newest version."""
        with self._lock:
            row = self._row("SELECT COUNT(*) FROM manifests WHERE dataset = ?", dataset)
        return row[0] if row is not None else 0

    def paths(self, dataset: str) -> list[str]:
        """Return the paths of the files of the newest version."""
        with self._lock:
            found = self._rows("SELECT path FROM manifests WHERE dataset = ?", dataset)
        return [row[0].encode("latin-1", "replace").decode("utf-8", "surrogateescape") for row in found]

    def newest(self, dataset: str) -> KnownVersion | None:
        with self._lock:
            row = self._row("SELECT version, parent, new_samples, grown FROM versions WHERE dataset = ?", dataset)
        if row is None:
            return None
        grown: Any = ()
        with suppress(ValueError):
            grown = json.loads(row[3])
        return KnownVersion(row[0], row[1], row[2], tuple(grown))

    def keep(
        self, dataset: str, newest: KnownVersion, entries: Iterable[FileEntry] | None, seen: Collection[int]
    ) -> None:
        """Note a data set's newest version, with its files unless they are the same, and forget files that are not
        ``seen`` any more, by ``place_of``."""
        with self._lock:
            if entries is not None:
                self._write("DELETE FROM manifests WHERE dataset = ?", dataset)
                for each in entries:
                    self._write("INSERT INTO manifests VALUES (?, ?, ?, ?, ?)", dataset, _text(each.path), each.size,
                                each.sha256, each.samples)  # fmt: skip
            self._write("INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?)", dataset, newest.version,
                        newest.parent, newest.new_samples, json.dumps(newest.grown))  # fmt: skip
            count = self._row("SELECT COUNT(*) FROM files WHERE dataset = ?", dataset)
            if count is not None and count[0] > len(seen):
                present = frozenset(seen)
                for place in self._rows("SELECT device, inode, reading FROM files WHERE dataset = ?", dataset):
                    if place_of(*place) not in present:
                        self._write("DELETE FROM files WHERE dataset = ? AND device = ? AND inode = ? AND reading = ?",
                                    dataset, *place)  # fmt: skip
            self.commit()

    def forget(self, dataset: str) -> None:
        """Forget a data set that is no longer one of this node."""
        with self._lock:
            for table in ("files", "manifests", "versions"):
                self._write(f"DELETE FROM {table} WHERE dataset = ?", dataset)
            self.commit()

    def commit(self) -> None:
        """Write what has been noted to the disk; an index calls this when it is interrupted."""
        with self._lock:
            self._uncommitted = 0
            if self._opened is not None and self._opened.in_transaction:
                self._do(self._opened, "COMMIT")

    def close(self) -> None:
        with self._lock:
            self.commit()
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _write(self, statement: str, *values: Any) -> None:
        connection = self._connection()
        if connection is None:
            return
        if not connection.in_transaction:
            self._do(connection, "BEGIN")
        self._do(connection, statement, *values)
        self._uncommitted += 1
        if self._uncommitted >= COMMIT_EVERY and statement.startswith("INSERT OR REPLACE INTO files"):
            self.commit()

    def _row(self, statement: str, *values: Any) -> Any:
        return next(iter(self._rows(statement, *values)), None)

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        connection = self._connection()
        return self._do(connection, statement, *values) if connection is not None else []

    def _do(self, connection: sqlite3.Connection, statement: str, *values: Any) -> list[Any]:
        try:
            return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:  # a full or damaged disk: the data sets are read all the same
            self._give_up(error)
            return []

    def _connection(self) -> sqlite3.Connection | None:
        if self._opened is None and not self._unusable:
            try:
                self._opened = self._open()
            except sqlite3.OperationalError as error:  # a full disk, a missing permission
                self._give_up(error)
            except sqlite3.DatabaseError as error:
                self._warn(f"{self._path}: {error}; it is made anew, and the data sets are read again")
                for end in ("", "-wal", "-shm"):
                    self._path.with_name(self._path.name + end).unlink(missing_ok=True)
                try:
                    self._opened = self._open()
                except sqlite3.Error as again:
                    self._give_up(again)
        return self._opened

    def _open(self) -> sqlite3.Connection:
        opened = self._world.database(self._path)
        try:
            opened.execute("PRAGMA journal_mode = WAL")
            opened.execute("PRAGMA synchronous = NORMAL")
            opened.execute("PRAGMA cache_size = -512")
            opened.executescript(_SCHEMA)
        except sqlite3.Error:
            opened.close()
            raise
        return opened

    def _give_up(self, error: sqlite3.Error) -> None:
        """Work without the file until the agent's next start."""
        self._unusable = True
        if self._opened is not None:
            with suppress(sqlite3.Error):
                if self._opened.in_transaction:
                    self._opened.execute("ROLLBACK")
                self._opened.close()
            self._opened = None
        self._warn(f"{self._path}: {error}; data sets are read without what was known of their files")


def place_of(device: int, inode: int, reading: str) -> int:
    """Return a number for a file and how it is read; it differs from start to start."""
    return hash((device, inode, reading))


def _text(path: str) -> str:
    """Return a path as SQLite stores it: bytes that are no UTF-8 become surrogates, which it refuses."""
    return path.encode("utf-8", "surrogateescape").decode("latin-1")
