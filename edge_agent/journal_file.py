"""The journal's file: its schema, what is checked when it is opened, and what is saved of one that is damaged."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliograph.core.errors import HeliographError
from heliograph.core.state_format import StateFormat, present, steps
from heliograph.core.world import World
from heliograph.edge_agent.state_migration import FORMAT, migrate

LANE_SHIFT = 56
OPENING_SHIFT = 32
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS producers (
    producer TEXT PRIMARY KEY, incarnation TEXT NOT NULL, sequence INTEGER NOT NULL
) WITHOUT ROWID;
"""
"""An event's id is its lane and its number in it: what is appended to a lane lies behind what it has."""
_OPENING = "opening"


def event_id(lane: int, n: int) -> int:
    """The row of number ``n`` of a lane."""
    return lane << LANE_SHIFT | n


def parts_of_id(id: int) -> tuple[int, int]:
    """Return the lane and number that ``event_id`` packed."""
    return id >> LANE_SHIFT, id & ((1 << LANE_SHIFT) - 1)


def first_number(opening: int) -> int:
    """Return where a lane's numbers start in the journal's n-th opening: a number is never used twice, even where the
    disk has lost its event."""
    return (opening << OPENING_SHIFT) + 1


def checksum(topic: str, body: bytes) -> int:
    """CRC-32 of the event; detects corruption."""
    return zlib.crc32(body, zlib.crc32(topic.encode()))


@dataclass(frozen=True, slots=True)
class Found:
    """What a journal's file contained when it was opened.

    Attributes:
        meta: what is noted of the journal, without its documents.
        heads: the highest number of each lane that has events.
        count: how many events.
        size: bytes of their topics and bodies.
    """

    meta: Mapping[str, str]
    heads: Mapping[int, int]
    count: int
    size: int


def open_file(path: Path, edge: str, world: World, warn: Callable[[str], None]) -> tuple[sqlite3.Connection, Found]:
    """The journal's connection for writing, and what lies there. A damaged file is set aside and what can be read of
    it is taken over.

    The state directory of an earlier version is migrated. Raises HeliographError where the file is another edge's or a
    newer version's, or where it cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = world.database(path)
        if damage := _damage(connection):
            connection.close()
            connection = _recover(path, edge, world, damage, warn)
        _prepare(connection, edge, world)
    except (sqlite3.Error, OSError) as error:
        raise HeliographError(
            f"journal {path}: {error}. The agent needs room and the right to write in its --state directory."
        ) from None
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key NOT LIKE 'doc:%'").fetchall())
    try:
        if meta["edge"] != edge:
            raise HeliographError(
                f"journal {path}: it belongs to edge {meta['edge']}, not {edge}. "
                f"Give this agent a --state directory of its own, or the name {meta['edge']}."
            )
        _migrate(connection, path, StateFormat(int(meta["version"]), meta.get("written_by", "")))
    except HeliographError:
        connection.close()
        raise
    lanes = connection.execute(
        "SELECT max(id), count(*), sum(length(body) + length(topic)) FROM events GROUP BY id >> ?", (LANE_SHIFT,)
    ).fetchall()
    heads = dict(parts_of_id(last) for last, _, _ in lanes)
    return connection, Found(meta, heads, sum(count for _, count, _ in lanes), sum(size for _, _, size in lanes))


def count_opening(connection: sqlite3.Connection, found: Found) -> int:
    """Counts this opening and returns its number, which then lies in the file itself, not beside it."""
    last = max(found.heads.values(), default=0)
    opening = max(int(found.meta.get(_OPENING, 0)), last >> OPENING_SHIFT) + 1
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_OPENING, str(opening)))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return opening


def events_in(path: Path, lane: int) -> int:
    """How many events of a lane a journal holds, read beside the agent that writes it; 0 where none can be read."""
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.05)
        with closing(connection):
            bounds = (event_id(lane, 0), event_id(lane + 1, 0))
            found: int = connection.execute("SELECT count(*) FROM events WHERE id > ? AND id < ?", bounds).fetchone()[0]
            return found
    return 0


def _prepare(connection: sqlite3.Connection, edge: str, world: World) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    connection.execute(
        "INSERT OR IGNORE INTO meta VALUES ('uuid', ?), ('edge', ?), ('version', ?)",
        (world.new_id()[:16], edge, str(FORMAT)),
    )


def _migrate(connection: sqlite3.Connection, path: Path, found: StateFormat) -> None:
    """The journal notes the format of its whole directory. 0.1 reads the number, too, and refuses a later one."""
    mine = present(FORMAT)
    for format in steps(found, FORMAT, f"the agent's state in {path.parent}"):
        try:
            migrate(path.parent, format)
        except OSError as error:
            raise HeliographError(f"the agent's state in {path.parent} could not be migrated: {error}") from None
    if found != mine:
        noted = (("version", str(mine.number)), ("written_by", mine.written_by))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", noted)
        connection.execute("COMMIT")


def _damage(connection: sqlite3.Connection) -> str:
    """What is wrong with the file, or nothing."""
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # no room, no right: not the file's fault
            raise
        return str(error)
    if found != "ok":
        return str(found)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "meta" not in tables:
        return "it is no journal"
    return ""


def _recover(path: Path, edge: str, world: World, damage: str, warn: Callable[[str], None]) -> sqlite3.Connection:
    """Sets the file aside under a name of its own and begins anew with what can be read of it."""
    with closing(_connect_leniently(path)) as old:
        meta = dict(_readable(old, "SELECT key, value FROM meta ORDER BY key"))
    if meta.get("edge", edge) != edge:
        raise HeliographError(
            f"journal {path}: damaged ({damage[:200]}), and of edge {str(meta['edge'])[:63]}, not {edge}. "
            "Give this agent a --state directory of its own."
        )
    aside = path.with_name(f"{path.name}.damaged-{world.timestamp().replace(':', '').replace('.', '')}")
    for end in ("", "-wal", "-shm"):
        part = path.with_name(path.name + end)
        if part.exists():
            part.rename(aside.with_name(aside.name + end))
    connection = world.database(path)
    with closing(_connect_leniently(aside)) as old:
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        saved = 0
        for row in _rows(old):
            saved += connection.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", row).rowcount
        if not str(meta.get("version")).isdigit():
            meta["version"] = "1"  # the earliest: a step that was taken already finds nothing to do
        kept = [(key, value) for key, value in meta.items() if isinstance(value, (str, bytes))]
        connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", kept)
        connection.execute("COMMIT")
    warn(f"journal {path}: damaged ({damage[:200]}); {saved} events were saved, the damaged file lies in {aside}")
    return connection


def _connect_leniently(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    with suppress(sqlite3.Error):  # without it SQLite reads nothing at all of a file that was cut off
        connection.execute("PRAGMA writable_schema = ON")
    return connection


def _rows(old: sqlite3.Connection) -> Iterator[tuple[int, str, bytes, int]]:
    """The events that can be read: forwards up to the damage, and backwards up to it."""
    for order in ("", " DESC"):
        for id, topic, body, crc in _readable(old, f"SELECT id, topic, body, crc FROM events ORDER BY id{order}"):
            whole = isinstance(id, int) and isinstance(topic, str) and isinstance(body, bytes)
            if whole and checksum(topic, body) == crc:
                yield id, topic, body, crc


def _readable(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the first that cannot be read."""
    try:
        yield from connection.execute(query)
    except sqlite3.Error:
        return
