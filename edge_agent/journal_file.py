"""The journal's file: its schema, checks when it is opened, and recovery of a damaged one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliograph.core.errors import HeliographError, shorten
from heliograph.core.names import is_label
from heliograph.core.state_format import StateFormat, present, steps
from heliograph.core.text import decode_leniently
from heliograph.core.world import World
from heliograph.edge_agent.event_checksum import checksum
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
CREATE TABLE IF NOT EXISTS deliveries (id INTEGER PRIMARY KEY, digest INTEGER NOT NULL, serial INTEGER NOT NULL);
"""
"""An event's id is made of its lane and its number: a lane's events are stored in order."""
OPENING = "opening"
"""Key of the number of openings."""
_NUMBERS = (OPENING, "version", "dropped")


def event_id(lane: int, n: int) -> int:
    """Return the row id of number ``n`` of a lane."""
    return lane << LANE_SHIFT | n


def parts_of_id(id: int) -> tuple[int, int]:
    """Return the lane and number that ``event_id`` packed."""
    return id >> LANE_SHIFT, id & ((1 << LANE_SHIFT) - 1)


def first_number(opening: int) -> int:
    """Return a lane's first number in the journal's n-th opening: a number is never used twice, even if the disk has
    lost its event."""
    return (opening << OPENING_SHIFT) + 1


def opening_of(number: int) -> int:
    """Return the opening of a number; 0 for one so high that no other opening could follow, which no agent gives."""
    opening = number >> OPENING_SHIFT
    return opening if opening < (1 << LANE_SHIFT - OPENING_SHIFT) - 1 else 0


@dataclass(frozen=True, slots=True)
class Found:
    """The content of a journal's file when it was opened.

    Attributes:
        meta: properties of the journal, without its documents.
        heads: the highest number of each lane that has events.
        count: number of events.
        size: bytes of their topics and bodies.
    """

    meta: Mapping[str, str]
    heads: Mapping[int, int]
    count: int
    size: int


def open_file(path: Path, edge: str, world: World, warn: Callable[[str], None]) -> tuple[sqlite3.Connection, Found]:
    """Open the journal's file. Return the connection for writing, and the file's content.

    Set a damaged file aside and save its readable events. Migrate the state directory of an earlier version. Raise
    HeliographError where the file belongs to another edge or a newer version, or cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = world.database(path)
        if damage := _damage(connection):
            connection.close()
            connection = _recover(path, edge, world, damage, warn)
        _prepare(connection, edge, world)
    except (sqlite3.Error, OSError) as error:
        raise _unusable(path, error) from None
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
    return connection, Found(meta, heads, sum(count for _, count, _ in lanes), sum(size or 0 for _, _, size in lanes))


def count_opening(path: Path, connection: sqlite3.Connection, found: Found) -> int:
    """Count this opening and return its number, written to the main file and not only to the log beside it. Raise
    HeliographError where it cannot be written."""
    last = max(found.heads.values(), default=0)
    opening = max(int(found.meta.get(OPENING, 0)), last >> OPENING_SHIFT) + 1
    try:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OPENING, str(opening)))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from None
    return opening


def events_in(path: Path, lane: int) -> int:
    """Return the number of a lane's events, read beside the agent that writes them; 0 where the file is unreadable."""
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.05)
        with closing(connection):
            bounds = (event_id(lane, 0), event_id(lane + 1, 0))
            found: int = connection.execute("SELECT count(*) FROM events WHERE id > ? AND id < ?", bounds).fetchone()[0]
            return found
    return 0


def _unusable(path: Path, error: Exception) -> HeliographError:
    return HeliographError(
        f"journal {path}: {error}. The agent needs room and the right to write in its --state directory."
    )


def _prepare(connection: sqlite3.Connection, edge: str, world: World) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    connection.execute(
        "INSERT OR IGNORE INTO meta VALUES ('uuid', ?), ('edge', ?), ('version', ?)",
        (world.new_id()[:16], edge, str(FORMAT)),
    )


def _migrate(connection: sqlite3.Connection, path: Path, found: StateFormat) -> None:
    """Migrate the state directory; the journal records its format. 0.1 reads the number and refuses a later one."""
    mine = present(FORMAT)
    for format in steps(found, FORMAT, f"the agent's state in {path.parent}"):
        try:
            migrate(path.parent, connection, format)
        except (OSError, sqlite3.Error) as error:
            raise HeliographError(f"the agent's state in {path.parent} could not be migrated: {error}") from None
    if found != mine:
        noted = (("version", str(mine.number)), ("written_by", mine.written_by))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", noted)
        connection.execute("COMMIT")


def _damage(connection: sqlite3.Connection) -> str:
    """Return the damage of the file; empty where there is none."""
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # no room or no permission: the file itself is fine
            raise
        return str(error)
    except UnicodeDecodeError:  # SQLite's report quotes the damage
        return "its schema is damaged"
    if found != "ok":
        return str(found)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "meta" not in tables:
        return "it is no journal"
    return _damaged_texts(connection, tables)


def _damaged_texts(connection: sqlite3.Connection, tables: Collection[str]) -> str:
    """Return the damage of the properties and producers, which SQLite does not find; empty where there is none.

    Each event has a checksum of its own.
    """
    for key, value in connection.execute("SELECT key, value FROM meta") if "meta" in tables else ():
        if not _is_whole_property(key, value):
            return f"property {shorten(key, 60)} is {shorten(value, 60)}"
    for producer, incarnation, sequence in (
        connection.execute("SELECT producer, incarnation, sequence FROM producers") if "producers" in tables else ()
    ):
        # before format 3 a producer's name alone
        named = isinstance(producer, str) and is_label(producer.removeprefix("worker/").removeprefix("device/"))
        if not (named and is_label(incarnation) and isinstance(sequence, int)):
            return f"producer {shorten(producer, 60)} is damaged"
    return ""


def _is_whole_property(key: object, value: object) -> bool:
    if not isinstance(key, str) or "\ufffd" in key:
        return False
    if key in _NUMBERS:
        return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19
    return isinstance(value, bytes) if key.startswith("doc:") else isinstance(value, str) and "\ufffd" not in value


def _recover(path: Path, edge: str, world: World, damage: str, warn: Callable[[str], None]) -> sqlite3.Connection:
    """Set the file aside under another name, and start a new one with its readable events."""
    with closing(_connect_leniently(path)) as old:
        found = _readable(old, "SELECT key, value FROM meta ORDER BY key")
        meta = {key: value for key, value in found if _is_whole_property(key, value)}
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
            meta["version"] = "1"  # the earliest format: a repeated migration step changes nothing
        kept = [(key, value) for key, value in meta.items() if isinstance(value, (str, bytes))]
        connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", kept)
        connection.execute("COMMIT")
    warn(f"journal {path}: damaged ({damage[:200]}); {saved} events were saved, the damaged file lies in {aside}")
    return connection


def _connect_leniently(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = decode_leniently
    with suppress(sqlite3.Error):  # without it SQLite reads no row of a truncated file
        connection.execute("PRAGMA writable_schema = ON")
    return connection


def _rows(old: sqlite3.Connection) -> Iterator[tuple[int, str, bytes, int]]:
    """Yield the readable events: forwards up to the damage, then backwards up to it."""
    for order in ("", " DESC"):
        for id, topic, body, crc in _readable(old, f"SELECT id, topic, body, crc FROM events ORDER BY id{order}"):
            whole = isinstance(id, int) and isinstance(topic, str) and isinstance(body, bytes)
            if whole and checksum(topic, body) == crc:
                yield id, topic, body, crc


def _readable(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows up to the first unreadable one."""
    try:
        yield from connection.execute(query)
    except sqlite3.Error:
        return
