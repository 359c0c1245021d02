"""A disk that is full at the edge: the oldest bulk goes, counted, and no file is damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliograph.bus.contract.topics import BULK, RESULTS
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.edge_agent import disk_reserve
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from tests.edge_agent.journals import bodies
from tests.fillable import Disk, fillable_disk

EDGE = "edge-1"
TELEMETRY, UPDATE = "event/telemetry/edge-1/meter", "edge/edge-1/up/model-update/job"
KB = 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with fillable_disk(tmp_path / "disk", 24 << 20) as made:
        yield made


@pytest.fixture(autouse=True)
def small_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_reserve, "LEAST", 8 << 20)


def opened(disk: Disk, said: list[str]) -> Journal:
    return Journal(disk.path / "journal.db", EDGE, World(), warn=said.append)


def event(n: int) -> NewEvent:
    return NewEvent(TELEMETRY, b"%08d" % n + bytes(KB), BULK)


def numbers(journal: Journal) -> list[int]:
    return [int(body[:8]) for body in bodies(journal, BULK)]


def integrity(path: Path) -> str:
    check = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])"
    ran = subprocess.run([sys.executable, "-c", check, str(path)], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


@pytest.mark.parametrize("others", [False, True], ids=["by-the-journal", "by-others"])
async def test_the_oldest_bulk_goes_when_the_file_system_is_full(disk: Disk, others: bool) -> None:
    said: list[str] = []
    journal = opened(disk, said)
    await journal.append(NewEvent(UPDATE, b"update", RESULTS))
    sent = 0
    for step in range(40):
        for _ in range(1000):
            sent += 1
            kept = journal.append(event(sent))
        await kept
        if others and step == 3:
            disk.fill()
    left = numbers(journal)
    assert left == [*range(sent - len(left) + 1, sent + 1)]  # the newest, in order
    assert journal.dropped == sent - len(left) > 0
    assert journal.waiting == len(left) + 1
    assert bodies(journal, RESULTS) == [b"update"]
    (line,) = said
    assert "is full: the oldest bulk events go" in line and "Make room on it: " in line
    dropped = journal.dropped
    journal.close()
    assert integrity(disk.path / "journal.db") == "ok"
    said.clear()
    again = opened(disk, said)  # with the disk still full
    assert (numbers(again), again.dropped, said) == (left, dropped, [])
    disk.free()
    await again.append(event(sent + 1))
    again.close()


async def test_a_full_disk_that_gets_room_is_said_once_and_drops_no_more(disk: Disk) -> None:
    said: list[str] = []
    journal = opened(disk, said)
    for n in range(1, 3001):
        kept = journal.append(event(n))
    await kept
    disk.fill()
    n = 3000
    while not journal.dropped:
        for _ in range(200):
            n += 1
            kept = journal.append(event(n))
        await kept
    disk.free()
    before = journal.dropped
    for later in range(n + 1, n + 501):
        kept = journal.append(event(later))
    await kept
    assert journal.dropped == before and numbers(journal)[-500:] == [*range(n + 1, n + 501)]
    assert [("has room again" in line, str(before) in line) for line in said] == [(False, False), (True, True)]
    journal.close()


async def test_results_are_refused_and_not_lost_where_nothing_may_be_dropped(disk: Disk) -> None:
    said: list[str] = []
    journal = opened(disk, said)
    taken = 0
    disk.fill()
    with pytest.raises(HeliographError, match=r"full\. Make room on the disk: 64 MB at least|room"):
        for _ in range(20_000):
            await journal.append(NewEvent(UPDATE, b"%08d" % taken + bytes(16 * KB), RESULTS))
            taken += 1
    assert [int(body[:8]) for body in bodies(journal, RESULTS)] == [*range(taken)]
    disk.free()
    await journal.append(NewEvent(UPDATE, b"%08d" % taken, RESULTS))
    assert len(bodies(journal, RESULTS)) == taken + 1 and journal.dropped == 0
    journal.close()


async def test_stored_events_are_forgotten_on_a_full_disk(disk: Disk) -> None:
    journal = opened(disk, [])
    for n in range(1, 5001):
        kept = journal.append(event(n))
    await kept
    disk.fill()
    (first, *_), through = journal.read(BULK, 0, 1, 1).events, journal.read(BULK, 0, 3000, 1 << 30).through
    assert first.n < through
    await journal.forget(BULK, through)
    assert numbers(journal) == [*range(3001, 5001)]
    for n in range(5001, 7001):  # in their place
        kept = journal.append(event(n))
    await kept
    assert numbers(journal)[-1] == 7000
    journal.close()


def test_a_reserve_is_taken_only_where_there_is_room_and_given_back_at_once(disk: Disk) -> None:
    (disk.path / "journal.db").touch()
    reserve = disk_reserve.DiskReserve(disk.path / "journal.db")
    disk.fill()
    assert not reserve.take() and reserve.missing
    disk.free()
    free = disk.room()
    assert reserve.take() and not reserve.missing
    assert free - disk.room() == disk_reserve.SIZE
    reserve.release()
    assert disk.room() == free
    assert not disk_reserve.DiskReserve(disk.path / "none.db").take()  # in a simulation
