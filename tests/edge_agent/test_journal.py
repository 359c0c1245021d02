"""The journal: what was acknowledged is there after a restart, in order, under numbers without a gap."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from heliograph.bus.errors import HeliographError
from heliograph.bus.world import World
from heliograph.edge_agent.journal import VERSION, Entry, Journal


def _open(path: Path, edge: str = "edge-1") -> Journal:
    return Journal(path / "journal.db", edge, World())


async def test_events_keep_their_order_and_numbers_per_lane(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    entries = [Entry(f"event/label/j{n}", bytes([n]), lane=n % 2) for n in range(20)]
    await asyncio.gather(*(journal.append(entry) for entry in entries))
    assert journal.waiting == 20
    uuid = journal.uuid
    journal.close()
    journal = _open(tmp_path)
    assert journal.uuid == uuid
    for lane in (0, 1):
        kept = journal.read(lane, 0, 100, 10**6)
        assert [each.n for each in kept] == list(range(1, 11))
        assert [each.body[0] for each in kept] == list(range(lane, 20, 2))
    assert [each.n for each in journal.read(0, 7, 2, 10**6)] == [8, 9]
    journal.close()


async def test_numbers_go_on_after_everything_was_forgotten(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    for n in range(3):
        await journal.append(Entry("event/label/j", bytes([n]), 0))
    await journal.forget(0, 3)
    journal.close()
    journal = _open(tmp_path)
    assert journal.waiting == 0
    await journal.append(Entry("event/label/j", b"x", 0))
    assert [each.n for each in journal.read(0, 0, 10, 100)] == [4]
    journal.close()


async def test_a_producers_next_number_is_taken_once(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    first = Entry("event/label/j", b"1", 0, "worker", "life-1", 1)
    assert journal.accepts(first)
    journal.claim(first)
    assert not journal.accepts(first)
    assert not journal.accepts(Entry("event/label/j", b"3", 0, "worker", "life-1", 3))
    assert journal.committed("worker", "life-1") == 0
    await journal.append(first)
    assert journal.committed("worker", "life-1") == 1
    journal.close()
    journal = _open(tmp_path)
    assert not journal.accepts(first)
    assert journal.accepts(Entry("event/label/j", b"2", 0, "worker", "life-1", 2))
    assert journal.accepts(Entry("event/label/j", b"1", 0, "worker", "life-2", 1))
    journal.close()


async def test_documents_outlive_the_process(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    assert journal.load("desired") == ""
    await journal.save("desired", "{}")
    journal.close()
    journal = _open(tmp_path)
    assert journal.load("desired") == "{}"
    journal.close()


async def test_another_edges_journal_is_refused(tmp_path: Path) -> None:
    _open(tmp_path).close()
    with pytest.raises(HeliographError, match="belongs to edge edge-1, not edge-2"):
        _open(tmp_path, "edge-2")


async def test_a_newer_versions_journal_is_refused(tmp_path: Path) -> None:
    _open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (str(VERSION + 1),))
    connection.commit()
    connection.close()
    with pytest.raises(HeliographError, match="of version 2, this agent reads up to 1"):
        _open(tmp_path)


async def test_the_journal_is_synced(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    assert journal._write.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._write.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    journal.close()
