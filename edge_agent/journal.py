"""The journal: every event a node produces is on disk, synced, before its producer is told so.

SQLite in WAL mode with synchronous=FULL. Events that arrive while a commit runs share the next one. Each lane (edge,
journal uuid, priority) numbers its events from 1 without a gap.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from heliograph.bus.errors import HeliographError
from heliograph.bus.world import World

T = TypeVar("T")
VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    lane INTEGER NOT NULL, n INTEGER NOT NULL, topic TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (lane, n)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS producers (
    producer TEXT PRIMARY KEY, incarnation TEXT NOT NULL, sequence INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event to be kept. ``producer``, ``incarnation`` and ``sequence`` where it wants our acknowledgement."""

    topic: str
    body: bytes
    lane: int
    producer: str = ""
    incarnation: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """An event in the journal, with its number in its lane."""

    n: int
    topic: str
    body: bytes


class Journal:
    """One node's journal. Raises HeliographError where the file is not this edge's or of a newer version."""

    def __init__(self, path: Path, edge: str, world: World) -> None:
        self._path = path
        self._world = world
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._write = self._open(edge)
        self._read = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.uuid = self._meta("uuid")
        self._load_heads()
        self.waiting: int = self._write.execute("SELECT count(*) FROM events").fetchone()[0]
        self._pending: list[tuple[Entry, asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._grown: dict[int, asyncio.Event] = {}

    def close(self) -> None:
        """Waits for the commit under way."""
        self._writer.shutdown(wait=True)
        self._write.close()
        self._read.close()

    def accepts(self, entry: Entry) -> bool:
        """Whether this is the producer's next event, rather than one again or one after a gap."""
        incarnation, sequence = self._claimed.get(entry.producer, ("", 0))
        return entry.sequence == (sequence + 1 if incarnation == entry.incarnation else 1)

    def claim(self, entry: Entry) -> None:
        """The entry is on its way to the disk: the producer's next number is the one after it."""
        self._claimed[entry.producer] = (entry.incarnation, entry.sequence)

    def claimed(self, producer: str) -> int:
        """The highest number of a producer that was claimed."""
        return self._claimed.get(producer, ("", 0))[1]

    def committed(self, producer: str, incarnation: str) -> int:
        """The highest number of a producer's incarnation that is on disk."""
        known, sequence = self._producers.get(producer, ("", 0))
        return sequence if known == incarnation else 0

    async def append(self, entry: Entry) -> None:
        """Returns when the event is on disk, synced. Raises HeliographError where it could not be kept."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_pending())
        await done

    def read(self, lane: int, after: int, most: int, most_bytes: int) -> list[Kept]:
        """The next events of a lane behind number ``after``."""
        found: list[Kept] = []
        size = 0
        rows = self._read.execute(
            "SELECT n, topic, body FROM events WHERE lane = ? AND n > ? ORDER BY n LIMIT ?", (lane, after, most)
        )
        for n, topic, body in rows:
            size += len(body)
            if found and size > most_bytes:
                break
            found.append(Kept(n, topic, body))
        rows.close()
        return found

    async def forget(self, lane: int, up_to: int) -> None:
        """The cloud has these: they need not be kept."""
        await self._on_writer(self._forget, lane, up_to)

    def stored(self, count: int) -> None:
        """The cloud has taken so many more: they wait no longer, though they may still lie here."""
        self.waiting -= count

    async def wait_grown(self, lane: int) -> None:
        """Returns when an event has been added to the lane since the last call."""
        event = self._grown.setdefault(lane, asyncio.Event())
        await event.wait()
        event.clear()

    def wake(self, lane: int) -> None:
        self._grown.setdefault(lane, asyncio.Event()).set()

    def load(self, key: str) -> str:
        """A saved document, or the empty string."""
        row = self._read.execute("SELECT value FROM meta WHERE key = ?", (f"doc:{key}",)).fetchone()
        return str(row[0]) if row else ""

    async def save(self, key: str, value: str) -> None:
        """Saves a document, synced."""
        await self._on_writer(self._save, f"doc:{key}", value)

    def _load_heads(self) -> None:
        self._next: dict[int, int] = dict(
            self._read.execute("SELECT lane, max(n) + 1 FROM events GROUP BY lane").fetchall()
        )
        for lane, n in self._read.execute("SELECT substr(key, 6), value FROM meta WHERE key LIKE 'next:%'"):
            self._next[int(lane)] = max(int(n), self._next.get(int(lane), 1))
        self._producers: dict[str, tuple[str, int]] = {
            row[0]: (row[1], row[2]) for row in self._read.execute("SELECT * FROM producers")
        }
        self._claimed = dict(self._producers)

    async def _on_writer(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, function, *args)

    async def _commit_pending(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            rows = []
            for entry, _ in batch:
                n = self._next.get(entry.lane, 1)
                self._next[entry.lane] = n + 1
                rows.append((entry.lane, n, entry.topic, entry.body))
            heads = {entry.producer: (entry.incarnation, entry.sequence) for entry, _ in batch if entry.producer}
            try:
                await self._on_writer(self._commit, rows, heads)
            except sqlite3.Error as error:
                self._load_heads()  # what was counted on is not there; producers send it again
                for _, done in batch:
                    if not done.done():
                        done.set_exception(HeliographError(f"journal {self._path}: {error}"))
                continue
            self.waiting += len(rows)
            self._producers |= heads
            for entry, done in batch:
                if not done.done():
                    done.set_result(None)
                self.wake(entry.lane)
        self._committing = None

    def _commit(self, rows: Sequence[tuple[int, int, str, bytes]], heads: dict[str, tuple[str, int]]) -> None:
        write = self._write
        write.execute("BEGIN IMMEDIATE")
        try:
            write.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            if heads:
                write.executemany(
                    "INSERT OR REPLACE INTO producers VALUES (?, ?, ?)",
                    [(producer, *head) for producer, head in heads.items()],
                )
            write.execute("COMMIT")
        except BaseException:
            write.execute("ROLLBACK")
            raise

    def _forget(self, lane: int, up_to: int) -> None:
        self._write.execute("BEGIN IMMEDIATE")
        # the next number must outlive the events that it counts on from
        self._write.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"next:{lane}", str(self._next[lane])))
        self._write.execute("DELETE FROM events WHERE lane = ? AND n <= ?", (lane, up_to))
        self._write.execute("COMMIT")

    def _save(self, key: str, value: str) -> None:
        self._write.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _meta(self, key: str) -> str:
        row = self._write.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def _open(self, edge: str) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        write.execute("PRAGMA journal_mode = WAL")
        write.execute("PRAGMA synchronous = FULL")
        write.executescript(_SCHEMA)
        write.execute("INSERT OR IGNORE INTO meta VALUES ('uuid', ?)", (self._world.new_id()[:16],))
        write.execute("INSERT OR IGNORE INTO meta VALUES ('edge', ?)", (edge,))
        write.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (str(VERSION),))
        found = dict(write.execute("SELECT key, value FROM meta WHERE key IN ('edge', 'version')").fetchall())
        if found["edge"] != edge:
            raise HeliographError(
                f"journal {self._path}: it belongs to edge {found['edge']}, not {edge}. "
                "Give this agent a --state directory of its own."
            )
        if int(found["version"]) > VERSION:
            raise HeliographError(
                f"journal {self._path}: it is of version {found['version']}, this agent reads up to {VERSION}. "
                "Install the newer heliograph again."
            )
        return write
