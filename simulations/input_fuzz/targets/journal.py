"""A damaged journal: it opens, or is refused with its reason; what it holds can be read, and it takes new events."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 only its type: the generator is seeded
import shutil
import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from heliograph.core.world import World
from heliograph.edge_agent.journal import QUOTA, Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.simulations.input_fuzz.hostile_values import TEXTS
from heliograph.simulations.input_fuzz.mutate import mutate_bytes
from heliograph.simulations.input_fuzz.target import Target

_FILE = "journal.db"
_STATEMENTS = (
    "UPDATE meta SET value = ? WHERE key = 'opening'", "UPDATE meta SET value = ? WHERE key = 'version'",
    "UPDATE meta SET value = ? WHERE key = 'dropped'", "UPDATE meta SET value = ? WHERE key = 'uuid'",
    "UPDATE meta SET value = ? WHERE key = 'edge'", "UPDATE meta SET value = ? WHERE key = 'doc:desired'",
    "UPDATE meta SET value = ? WHERE key = 'written_by'", "INSERT OR REPLACE INTO meta VALUES (?1, ?1)",
    "UPDATE events SET topic = ?", "UPDATE events SET body = ?", "UPDATE events SET crc = ?",
    "UPDATE events SET id = ? WHERE id = (SELECT max(id) FROM events)", "UPDATE producers SET sequence = ?",
    "UPDATE producers SET incarnation = ?", "INSERT OR REPLACE INTO producers VALUES (?1, ?1, ?1)",
    "INSERT OR REPLACE INTO events VALUES (?1, ?1, ?1, ?1)", "DROP TABLE events", "DROP TABLE producers",
    "ALTER TABLE events ADD COLUMN more", "CREATE TABLE more (a)", "CREATE VIEW v AS SELECT * FROM v",
)  # fmt: skip
_ODD = (
    None, 0, -1, 1, 2**63 - 1, -(2**63), 1.5, float("inf"), b"", b"\xff\xfe", b"\0" * 40,
    *(text for text in TEXTS if isinstance(text, str)),
)  # fmt: skip


@cache
def _whole() -> bytes:
    """Return a journal with events of both lanes, a document and a producer."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / _FILE
        asyncio.run(_write(path))
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        return path.read_bytes()


async def _write(path: Path) -> None:
    journal = Journal(path, "edge-1", World(), QUOTA, lambda line: None)
    try:
        await journal.save("desired", b"{}")
        for number in range(1, 6):
            await journal.append(NewEvent("edge/edge-1/up/evaluation/a", b"x" * 50, 0, "w", "1", number))
            await journal.append(NewEvent("event/telemetry/edge-1/d", b'{"n":1}', 1))
    finally:
        journal.close()


def _draw(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return mutate_bytes(rng, _whole(), _whole())
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / _FILE
        path.write_bytes(_whole())
        connection = sqlite3.connect(path, isolation_level=None)
        for _ in range(rng.choice((1, 1, 2, 3))):
            statement = rng.choice(_STATEMENTS)
            try:
                connection.execute(statement, (rng.choice(_ODD),) if "?" in statement else ())
            except (sqlite3.Error, UnicodeEncodeError, OverflowError):
                continue  # the schema itself refuses the value
        connection.close()
        return path.read_bytes()


def _read(body: bytes, scratch: Path) -> None:
    path = scratch / "state" / _FILE
    path.parent.mkdir()
    path.write_bytes(body)
    try:
        asyncio.run(_open_twice(path))
    finally:
        shutil.rmtree(path.parent)


async def _open_twice(path: Path) -> None:
    for _ in range(2):
        journal = Journal(path, "edge-1", World(), QUOTA, lambda line: None)
        try:
            journal.load("desired")
            for lane in (0, 1):
                at = 0
                while not (window := journal.read(lane, at, 2, 1 << 20)).last:
                    assert window.through > at, "a lane is read in a circle"
                    at = window.through
            entry = NewEvent("edge/edge-1/up/evaluation/a", b"y", 0, "another", "1", 1)
            if journal.accepts(entry):
                await journal.append(entry)
                assert journal.committed("another", "1") == 1, "an acknowledged event is not on the disk"
        finally:
            journal.close()


TARGETS = (Target("journal", lambda rng: _whole(), _read, _draw),)
