"""The journal: events on disk, synced before they are acknowledged.

SQLite in WAL mode with synchronous=FULL. Events that arrive while a commit runs share the next one. Each lane (edge,
journal uuid, priority) numbers its events upwards; a number is never used twice.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from heliograph.bus.contract.topics import BULK, LANES
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import Flag
from heliograph.core.telemetry import JOURNAL_COMMITS, JOURNAL_EVENTS
from heliograph.core.world import World
from heliograph.edge_agent.disk_reserve import LEAST, is_full
from heliograph.edge_agent.event_checksum import checksum
from heliograph.edge_agent.journal_file import event_id, first_number, open_file, parts_of_id
from heliograph.edge_agent.journal_writer import DOCUMENT, DROPPED, Delivery, JournalWriter, NewEvent
from heliograph.edge_agent.node_clock import STEP, NodeClock
from heliograph.edge_agent.producers import DEVICE, split_key

T = TypeVar("T")
QUOTA = 1 << 30
"""Bytes of events that may wait on a node's disk; the agent's options may set another number."""
GROUP = 1024
GROUP_BYTES = 8 << 20
"""Events, and bytes, of one commit at most; further events wait for the next one."""
ROOM = 16 * GROUP
ROOM_BYTES = 4 * GROUP_BYTES
"""Events, and bytes, that may wait in memory for their commit."""

CLOCK = "clock"
"""Key of the document of the clock's stretches."""
MAX_PRODUCERS = 10_000
"""Producers whose numbers are kept. Any device can take any number of names; one that is forgotten begins again."""


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event in the journal, with its number in its lane."""

    n: int
    topic: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Window:
    """Events of a lane, in order.

    Attributes:
        through: highest number that was read; an event that is damaged on the disk is skipped.
        last: whether the lane ends with ``through``.
    """

    events: list[KeptEvent]
    through: int
    last: bool


@dataclass(slots=True)
class _Group:
    """Events that share one commit, the future that ends with the commit, and the base of the clock at that time."""

    done: asyncio.Future[None]
    base: float
    entries: list[NewEvent] = field(default_factory=list)
    size: int = 0


class Journal:
    """One node's journal. Raises HeliographError where the file belongs to another edge or a newer version.

    Args:
        quota: bytes of events that may wait. At the quota the oldest events of the bulk lane are dropped and counted;
            events of the other lane are refused, never dropped.
        warn: called with a line about damage, and about dropped events.
    """

    def __init__(
        self, path: Path, edge: str, world: World, quota: int = QUOTA, warn: Callable[[str], None] = lambda line: None
    ) -> None:
        self._path = path
        self._quota = quota
        self._warn = warn
        connection, found = open_file(path, edge, world, warn)
        self._writer = JournalWriter(path, connection, found, quota)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._read = world.database(path)
        self.uuid = found.meta["uuid"]
        self._world = world
        self._clock_unsaved: Mapping[str, bytes] = {}
        self._disk_is_full = False
        self._dropped_before = 0
        self._clock = NodeClock(self.load(CLOCK), world.boot or f"opening {self._writer.opening}")
        self._producers: dict[str, tuple[str, int]] = {
            row[0]: (row[1], row[2]) for row in self._read.execute("SELECT * FROM producers")
        }
        self._claimed = dict(self._producers)
        self.waiting = found.count
        self.dropped = int(found.meta.get(DROPPED, 0))
        """Events dropped because of the quota, since the journal was created."""
        self.sent = dict.fromkeys(LANES, 0)
        """By lane, the highest number that has been sent since the file was opened, or was to be."""
        self.damaged = 0
        """Events that were skipped because they are damaged on the disk."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with an error once the file is damaged beyond use; opening the journal again repairs it."""
        self._count_commit = world.telemetry.counter(JOURNAL_COMMITS)
        self._count_events = world.telemetry.histogram(JOURNAL_EVENTS)
        self._groups: deque[_Group] = deque()
        self._in_memory = [0, 0]
        self._room = Flag()
        self._committing: asyncio.Task[None] | None = None
        self._grown = {lane: Flag() for lane in LANES}
        self.heard: Callable[[], None] = lambda: None
        """Called after each commit of events of the bulk lane."""
        self.kept_from: Callable[[], int | None] = lambda: None
        """Returns the number up to which the bulk lane's events may be deleted, None for any: the ones behind it are
        still to be recorded on this node."""
        self._stored = 0

    @property
    def size(self) -> int:
        """Bytes of the file that the waiting events need."""
        return self._writer.size

    def close(self) -> None:
        """Wait for the commit under way, then close the file."""
        self._thread.shutdown(wait=True)
        self._writer.close()
        self._read.close()
        self.failed.cancel()

    def accepts(self, entry: NewEvent) -> bool:
        """Return whether this is the producer's next event, rather than a repeated one or one after a gap."""
        incarnation, sequence = self.newest(entry.producer)
        return entry.sequence == (sequence + 1 if incarnation == entry.incarnation else 1)

    def newest(self, producer: str) -> tuple[str, int]:
        """Return the incarnation and the highest number of a producer, also where its commit is under way."""
        return self._claimed.get(producer, ("", 0))

    def committed(self, producer: str, incarnation: str) -> int:
        """Return the highest number of a producer's incarnation that is on disk."""
        known, sequence = self._producers.get(producer, ("", 0))
        return sequence if known == incarnation else 0

    def append(self, entry: NewEvent) -> asyncio.Future[None]:
        """Append an event. Return a future, shared by all events of one commit, that is done when they are on disk,
        synced. It raises HeliographError where the commit fails; later events are then not committed either."""
        base, group = self._world.clock_base(), self._groups[-1] if self._groups else None
        if (
            group is None or group.size >= GROUP_BYTES or len(group.entries) >= GROUP or abs(base - group.base) > STEP
        ):  # fmt: skip
            group = _Group(asyncio.get_running_loop().create_future(), base)
            self._groups.append(group)
        group.entries.append(entry)
        size = entry.size
        group.size += size
        self._in_memory[0] += 1
        self._in_memory[1] += size
        if entry.producer:
            self._claimed[entry.producer] = (entry.incarnation, entry.sequence)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_groups())
        return group.done

    async def wait_for_room(self) -> None:
        """Return once few enough events wait for their commit that more may be appended."""
        while not self.has_room:
            self._room.clear()
            await self._room.wait()

    @property
    def has_room(self) -> bool:
        """Whether few enough events wait for their commit that more may be appended."""
        return self._in_memory[0] <= ROOM and self._in_memory[1] <= ROOM_BYTES

    def delivery(self, id: int) -> Delivery | None:
        """Return the newest journalled message of that id in the session of the devices' broker."""
        row = self._read.execute("SELECT id, digest, serial FROM deliveries WHERE id = ?", (id,)).fetchone()
        return Delivery(*row) if row is not None else None

    def last_serial(self) -> int:
        """Return the highest serial number of such messages; 0 where there is none."""
        return int(self._read.execute("SELECT ifnull(max(serial), 0) FROM deliveries").fetchone()[0])

    async def forget_deliveries(self) -> None:
        """Forget these messages: their session has ended."""
        await self._on_thread(self._writer.forget_deliveries)

    def read(self, lane: int, after: int, most: int, most_bytes: int, each: int = 0) -> Window:
        """Return a lane's next events behind number ``after``. Raise HeliographError where the file is unreadable.

        Args:
            each: bytes that count for each event besides its body.
        """
        found: list[KeptEvent] = []
        through, size, scanned, last = after, 0, 0, False
        try:
            rows = self._read.execute(
                "SELECT id, topic, body, crc FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                (event_id(lane, after), event_id(lane + 1, 0), most),
            )
            for id, topic, body, crc in rows:
                whole = isinstance(topic, str) and isinstance(body, bytes) and checksum(topic, body) == crc
                size += len(body) + each if whole else 0
                if found and size > most_bytes:
                    break
                scanned += 1
                _, through = parts_of_id(id)
                if whole:
                    found.append(KeptEvent(through, topic, body))
                else:
                    self.damaged += 1
                    self._warn(f"journal {self._path}: event {through} of lane {lane} is damaged and was skipped")
            else:
                last = scanned < most
            rows.close()
            under_way = self._writer.under_way
            under_way[lane] = max(under_way[lane], through)
        except sqlite3.Error as error:
            raise self._failure(error) from None
        return Window(found, through, last)

    @property
    def opening(self) -> int:
        """Number of this opening of the file; 1 for a new journal."""
        return self._writer.opening

    async def begin_above(self, opening: int, behind: Mapping[int, int]) -> None:
        """Give the events behind a number of each lane, and all later ones, numbers above those of an opening of which
        the cloud has events: this file is an earlier copy of the journal."""
        by = self._writer.step_above(opening)
        first = first_number(self._writer.opening) - 1
        behind = {lane: max(first, through) for lane, through in behind.items()}
        for lane, through in behind.items():
            self._clock.renumber(lane, through, by)
        await self._on_thread(self._writer.begin_above, opening, behind, {CLOCK: self._clock.encoded()})

    def clock_offset(self, lane: int, n: int) -> float:
        """Return the seconds by which the node's clock has been set since an event was journalled."""
        return self._clock.offset(lane, n, self._world.clock_base())

    def count_stored(self, count: int) -> None:
        """Count events that the cloud has stored: they no longer wait, though the file may still have them."""
        self.waiting -= count

    async def forget(self, lane: int, through: int) -> None:
        """Delete the events of a lane up to a number: the cloud has stored them. Those that are still to be recorded on
        this node go later, with ``forget_recorded``."""
        if lane == BULK:
            self._stored = max(self._stored, through)
            if (recorded := self.kept_from()) is not None:
                through = min(through, recorded)
        await self._on_thread(self._writer.forget, lane, through)

    async def forget_recorded(self) -> None:
        """Delete the bulk events that the cloud had stored before they were recorded on this node."""
        if self._stored:
            await self.forget(BULK, self._stored)

    async def wait_for_events(self, lane: int) -> None:
        """Return once an event has been added to the lane since the last call."""
        await self._grown[lane].wait()
        self._grown[lane].clear()

    def load(self, key: str) -> bytes:
        """Return a saved document; empty where there is none."""
        row = self._read.execute("SELECT value FROM meta WHERE key = ?", (f"{DOCUMENT}{key}",)).fetchone()
        return row[0] if row is not None and isinstance(row[0], bytes) else b""

    async def save(self, key: str, value: bytes) -> None:
        """Save a document, synced."""
        await self._on_thread(self._writer.save, f"{DOCUMENT}{key}", value)

    async def delete(self, key: str) -> None:
        """Delete a saved document, synced."""
        await self._on_thread(self._writer.delete, f"{DOCUMENT}{key}")

    def documents(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield key and value of the saved documents whose keys begin so, sorted."""
        first = f"{DOCUMENT}{prefix}"
        rows = self._read.execute("SELECT key, value FROM meta WHERE key >= ? AND key < ? ORDER BY key",
                                  (first, f"{first}\U0010ffff"))  # fmt: skip
        for key, value in rows.fetchall():
            if isinstance(key, str) and isinstance(value, bytes):
                yield key.removeprefix(DOCUMENT), value

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of the saved documents that begin so, sorted."""
        first = f"{DOCUMENT}{prefix}"
        rows = self._read.execute("SELECT key FROM meta WHERE key >= ? AND key < ? ORDER BY key",
                                  (first, f"{first}\U0010ffff"))  # fmt: skip
        return [key.removeprefix(DOCUMENT) for (key,) in rows if isinstance(key, str)]

    async def _on_thread(self, function: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.Error) -> HeliographError:
        what = HeliographError(f"journal {self._path}: {error}")
        if is_full(error):
            return HeliographError(f"{what}. Make room on the disk: {LEAST >> 20} MB at least")
        if not isinstance(error, sqlite3.OperationalError) and isinstance(error, sqlite3.DatabaseError):
            what = HeliographError(f"{what}. Start the agent again: it saves the readable events.")
            if not self.failed.done():
                self.failed.set_exception(what)
        return what

    async def _commit_groups(self) -> None:
        while self._groups:
            group = self._groups.popleft()
            heads = {each.producer: (each.incarnation, each.sequence) for each in group.entries if each.producer}
            forgotten = self._oldest_beyond_bound(heads)
            try:
                dropped = await self._on_thread(
                    self._writer.commit, group.entries, group.size, heads, forgotten, self.dropped,
                    self._look_at_clock(group),
                )  # fmt: skip
            except HeliographError as error:
                self._fail_groups(group, error)
                continue
            self._clock_unsaved = {}
            self._look_at_disk(dropped)
            self._note_producers(heads, forgotten)
            self.waiting += len(group.entries) - dropped
            if dropped:
                if not self.dropped and not self._disk_is_full:
                    self._warn(f"the journal's quota of {self._quota} bytes is reached; the oldest bulk events go")
                self.dropped += dropped
            self._leave_memory(group)
            self._count_commit(1)
            self._count_events(len(group.entries))
            group.done.set_result(None)
            for lane in {each.lane: None for each in group.entries}:
                self._grown[lane].set()
                if lane == BULK:
                    self.heard()
            for each in group.entries:
                if each.on_commit is not None:
                    each.on_commit()
        self._committing = None

    def _look_at_disk(self, dropped: int) -> None:
        """Say once that the disk is full, and once that it has room again."""
        full = self._writer.disk_is_full
        if dropped and full and not self._disk_is_full:
            self._disk_is_full = True
            self._dropped_before = self.dropped
            self._warn(f"the disk of {self._path.parent} is full: the oldest bulk events go, so that the newest are "
                       f"kept. Make room on it: {LEAST >> 20} MB at least")  # fmt: skip
        elif self._disk_is_full and not full:
            self._disk_is_full = False
            lost = self.dropped - self._dropped_before
            self._warn(f"the disk of {self._path.parent} has room again; {lost} bulk events were dropped meanwhile")

    def _look_at_clock(self, group: _Group) -> Mapping[str, bytes]:
        """Return what the commit saves of the clock: nothing, unless it has been set, or this is the first commit."""
        set_by = self._clock.observe(group.base, self._writer.following)
        if set_by is None:
            return self._clock_unsaved
        if set_by and self.waiting:
            self._warn(f"the node's clock was set by {set_by:+.0f} s; {self.waiting} events that wait have their times "
                       "from before, and are marked so when they are forwarded")  # fmt: skip
        self._clock_unsaved = {CLOCK: self._clock.encoded()}
        return self._clock_unsaved

    def _oldest_beyond_bound(self, heads: Mapping[str, tuple[str, int]]) -> list[str]:
        """Return the producers to forget when these are noted: devices before workers, which devices cannot bring."""
        surplus = len(self._producers) + sum(each not in self._producers for each in heads) - MAX_PRODUCERS
        if surplus <= 0:
            return []
        others = [producer for producer in self._producers if producer not in heads]
        others.sort(key=lambda producer: split_key(producer)[0] != DEVICE)  # stable: oldest first
        return others[: surplus + MAX_PRODUCERS // 20]  # some more, because each search costs time

    def _note_producers(self, heads: Mapping[str, tuple[str, int]], forgotten: Iterable[str]) -> None:
        for producer, head in heads.items():
            self._producers.pop(producer, None)  # the newest is last
            self._producers[producer] = head
        for producer in forgotten:
            head = self._producers.pop(producer)
            if self._claimed.get(producer) == head:  # else more of its events wait for their commit
                del self._claimed[producer]

    def _fail_groups(self, group: _Group, error: HeliographError) -> None:
        """Fail a group and those behind it: producers resend unacknowledged events."""
        failed = [group, *self._groups]
        self._groups.clear()
        self._claimed = dict(self._producers)
        for each in failed:
            self._leave_memory(each)
            each.done.set_exception(error)
            each.done.exception()  # not every producer waits for it

    def _leave_memory(self, group: _Group) -> None:
        self._in_memory[0] -= len(group.entries)
        self._in_memory[1] -= group.size
        self._room.set()
