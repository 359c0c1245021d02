"""Write to the journal's file: commit events, make room for them at the quota, and delete stored ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from heliograph.bus.contract.topics import BULK, LANES
from heliograph.core.errors import HeliographError
from heliograph.edge_agent.disk_reserve import DiskReserve, is_full
from heliograph.edge_agent.event_checksum import checksum
from heliograph.edge_agent.journal_file import OPENING, Found, count_opening, event_id, first_number

OVERHEAD = 64
"""Bytes of the file that an event needs besides its topic and body."""
DROP = 0.05
"""Share of the quota that is freed together when the quota is reached, since each search for room costs time."""
DOCUMENT = "doc:"
"""Begin of the key of a document."""
DROPPED = "dropped"
"""Key of the number of events that were dropped because of the quota."""


class Delivery(NamedTuple):
    """A broker's message, by which it is known again when the broker sends it once more after a crash.

    Attributes:
        id: of the message in the broker's session.
        digest: of its topic and payload.
        serial: rises with each message: a session uses an id again.
    """

    id: int
    digest: int
    serial: int


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    Attributes:
        producer, incarnation, sequence: whose it is (``producers.key_of``) and its number, if it is acknowledged.
        documents: documents, by key, that are saved together with it.
        delivery: by which message of a broker it came, if that broker would send it again.
        on_commit: called once all of it is on the disk.
    """

    topic: str
    body: bytes
    lane: int
    producer: str = ""
    incarnation: str = ""
    sequence: int = 0
    documents: Mapping[str, bytes] = field(default_factory=dict)
    on_commit: Callable[[], None] | None = None
    delivery: Delivery | None = None

    @property
    def size(self) -> int:
        """Bytes of the file that the event needs while it waits."""
        return len(self.body) + len(self.topic) + OVERHEAD


class JournalFull(HeliographError):
    """The quota is full of events that must not be dropped; new ones are accepted once the cloud has stored some."""


class JournalWriter:
    """The journal's writing connection. One thread calls its methods, one after the other.

    Args:
        found: the file's content when it was opened.
        quota: bytes of events that may wait.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, found: Found, quota: int) -> None:
        self._path = path
        self._connection = connection
        self._quota = quota
        self.opening = count_opening(path, connection, found)
        """Number of this opening of the file: the upper bits of the numbers that events get."""
        first = first_number(self.opening)
        self._next = {lane: max(first, found.heads.get(lane, 0) + 1) for lane in LANES}
        self._limit = quota
        """Bytes of events that may wait as long as bulk can be dropped: the quota, or what a full disk has room for."""
        self._reserve = DiskReserve(path)
        self._reserve.take()
        self.disk_is_full = False
        """Whether the disk had no room, and has not got enough since."""
        self._size = found.size + found.count * OVERHEAD
        self.under_way = dict.fromkeys(LANES, 0)
        """The highest number read of each lane, set by the reader: events on their way to the cloud are not dropped."""

    @property
    def size(self) -> int:
        """Bytes of the file that the waiting events need."""
        return self._size

    @property
    def following(self) -> Mapping[int, int]:
        """By lane, the number that the next event gets."""
        return self._next

    def close(self) -> None:
        self._connection.close()

    def commit(
        self,
        entries: Collection[NewEvent],
        size: int,
        heads: Mapping[str, tuple[str, int]],
        forgotten: Collection[str],
        dropped_before: int,
        more: Mapping[str, bytes],
    ) -> int:
        """Commit events together, synced. Return the number of waiting events that were dropped to make room: at the
        quota, and where the disk is full.

        Args:
            size: bytes of the file that the events need.
            heads: incarnation and highest number of each producer.
            forgotten: producers whose numbers are deleted.
            dropped_before: events that earlier commits dropped.
            more: documents, by key, that are saved together with them.
        """
        if self._reserve.take():
            self.disk_is_full, self._limit = False, self._quota
        try:
            return self._commit(entries, size, heads, forgotten, dropped_before, more)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
        self._make_disk_room()
        # from now on the file must not grow: there is no second reserve
        self._limit = max(0, min(self._limit, self._size) - max(size, int(self._size * DROP)))
        dropped = self._commit(entries, size, heads, forgotten, dropped_before, more)
        self._reserve.keep_rest()
        return dropped

    def _commit(
        self, entries: Collection[NewEvent], size: int, heads: Mapping[str, tuple[str, int]],
        forgotten: Collection[str], dropped_before: int, more: Mapping[str, bytes],
    ) -> int:  # fmt: skip
        following = dict(self._next)
        rows = []
        for entry in entries:
            n = following[entry.lane]
            following[entry.lane] = n + 1
            rows.append((event_id(entry.lane, n), entry.topic, entry.body, checksum(entry.topic, entry.body)))
        freed, dropped = 0, 0  # bytes, events
        with self._transaction() as write:
            if self._size + size > self._limit:
                freed, dropped = self._make_room(size)
            if dropped:
                self.save(DROPPED, str(dropped_before + dropped))
            write.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            kept = (more, *(each.documents for each in entries))
            documents = {f"{DOCUMENT}{key}": value for each in kept for key, value in each.items()}
            if documents:
                write.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", documents.items())
            deliveries = {each.delivery.id: each.delivery for each in entries if each.delivery is not None}
            if deliveries:
                write.executemany("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?)", deliveries.values())
            if heads:
                write.executemany(
                    "INSERT OR REPLACE INTO producers VALUES (?, ?, ?)",
                    [(producer, *head) for producer, head in heads.items()],
                )
            if forgotten:
                write.executemany("DELETE FROM producers WHERE producer = ?", [(producer,) for producer in forgotten])
        self._next = following
        self._size += size - freed
        return dropped

    def forget(self, lane: int, through: int) -> None:
        """Delete the events of a lane up to a number."""
        self._with_disk_room(partial(self._forget, lane, through))

    def _forget(self, lane: int, through: int) -> None:
        bounds = (event_id(lane, 0), event_id(lane, through))
        with self._transaction() as write:
            count, size = write.execute(
                "SELECT count(*), sum(length(body) + length(topic)) FROM events WHERE id > ? AND id <= ?", bounds
            ).fetchone()
            write.execute("DELETE FROM events WHERE id > ? AND id <= ?", bounds)
        self._size -= (size or 0) + count * OVERHEAD

    def begin_above(self, opening: int, behind: Mapping[int, int], documents: Mapping[str, bytes]) -> None:
        """Give the events of some lanes, and all later ones, the numbers of an opening above ``opening``.

        Args:
            behind: by lane, the number behind which its events are renumbered.
            documents: documents, by key, that are saved together with that.
        """
        by = self.step_above(opening)
        with self._transaction() as write:
            for lane, through in behind.items():
                bounds = (event_id(lane, through), event_id(lane + 1, 0))
                write.execute("UPDATE events SET id = id + ? WHERE id > ? AND id < ?", (by, *bounds))
            self.save(OPENING, str(opening + 1))
            for key, value in documents.items():
                self.save(f"{DOCUMENT}{key}", value)
        self._next = {lane: n + by if lane in behind else n for lane, n in self._next.items()}
        self.opening = opening + 1

    def step_above(self, opening: int) -> int:
        """Return the difference between the numbers of this opening and those of the first one above ``opening``."""
        return first_number(opening + 1) - first_number(self.opening)

    def save(self, key: str, value: str | bytes) -> None:
        """Save a property or a document, synced."""
        write = self._connection.execute
        statement = partial(write, "INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        statement() if self._connection.in_transaction else self._with_disk_room(statement)

    def delete(self, key: str) -> None:
        """Delete a property or a document, synced."""
        self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))

    def forget_deliveries(self) -> None:
        """Forget the messages of a broker's session that has ended."""
        self._connection.execute("DELETE FROM deliveries")

    def _with_disk_room(self, work: Callable[[], object]) -> None:
        try:
            work()
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            self._make_disk_room()
            work()

    def _make_disk_room(self) -> None:
        """Give the reserve to the disk, and empty SQLite's log, whose room the next transaction gets."""
        self.disk_is_full = True
        self._reserve.release()
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        write = self._connection
        write.execute("BEGIN IMMEDIATE")
        try:
            yield write
            write.execute("COMMIT")
        except BaseException:
            if write.in_transaction:
                write.execute("ROLLBACK")
            raise

    def _make_room(self, wanted: int) -> tuple[int, int]:
        """Drop the oldest bulk events that are not on their way. Return the bytes freed and the number of events."""
        freed, dropped = self._drop_oldest(self._size + wanted - int(self._limit * (1 - DROP)))
        if self._size - freed + wanted > self._quota:
            raise JournalFull(
                f"journal {self._path}: the quota of {self._quota} bytes is full of events that wait for the cloud "
                "and must not be dropped; it accepts new ones once the cloud has stored some, or with more --journal-mb"
            )
        return freed, dropped

    def _drop_oldest(self, to_free: int) -> tuple[int, int]:
        first = event_id(BULK, self.under_way[BULK])
        last, freed, dropped = first, 0, 0
        for id, size in self._connection.execute(
            "SELECT id, length(body) + length(topic) FROM events WHERE id > ? AND id < ? ORDER BY id",
            (first, event_id(BULK + 1, 0)),
        ):
            if freed >= to_free:
                break
            last, freed, dropped = id, freed + size + OVERHEAD, dropped + 1
        self._connection.execute("DELETE FROM events WHERE id > ? AND id <= ?", (first, last))
        return freed, dropped
