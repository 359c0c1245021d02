"""A damaged journal: each event that can be read is saved, and the damage is named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from heliograph.bus.contract.topics import BULK
from heliograph.core.errors import HeliographError
from heliograph.edge_agent.journal_writer import NewEvent
from tests.edge_agent.journals import Open, bodies

TELEMETRY = "event/telemetry/edge-1/d"


async def test_a_flipped_bit_costs_only_its_event(journal_at: Open, tmp_path: Path, logged: list[str]) -> None:
    journal = journal_at()
    for n in range(50):
        await journal.append(NewEvent(TELEMETRY, b"<event %02d>" % n, BULK))
    journal_at()  # reopening moves the write-ahead log into the file
    _flip(tmp_path / "journal.db", b"<event 17>", 3)
    journal = journal_at()
    assert [int(body[7:9]) for body in bodies(journal, BULK)] == [n for n in range(50) if n != 17]
    assert journal.damaged == 1
    assert "is damaged and was skipped" in logged[-1]


@pytest.mark.parametrize("how", ["truncated", "header", "page"])
async def test_a_damaged_file_is_set_aside_and_its_readable_events_saved(
    journal_at: Open, tmp_path: Path, logged: list[str], how: str
) -> None:
    journal = journal_at()
    await journal.save("desired", b"{}")
    for n in range(200):
        await journal.append(NewEvent(TELEMETRY, b"%03d" % n + bytes(500), BULK))
    uuid, highest = journal.uuid, journal.read(BULK, 0, 10**6, 10**9).through
    journal = journal_at()
    journal.close()
    path = tmp_path / "journal.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        if how == "truncated":
            file.truncate(size // 2)
        else:
            file.seek(0 if how == "header" else size // 2 // 4096 * 4096)
            file.write(b"\xff" * 64)
    before = path.read_bytes()
    journal = journal_at()
    aside = [each for each in tmp_path.iterdir() if ".damaged-" in each.name and not each.name.endswith(("wal", "shm"))]
    assert len(aside) == 1
    assert aside[0].read_bytes() == before
    assert f"the damaged file lies in {aside[0]}" in logged[-1]
    saved = [int(body[:3]) for body in bodies(journal, BULK)]
    assert saved == sorted(set(saved))
    if how != "header":
        assert len(saved) > 50
        assert f"{len(saved)} events were saved" in logged[-1]
        assert journal.uuid == uuid
    await journal.append(NewEvent(TELEMETRY, b"new", BULK))
    assert journal.uuid != uuid or journal.read(BULK, 0, 10**6, 10**9).through > highest


DAMAGED = "CAST(x'ff6d656574c3' AS TEXT)"


async def test_an_event_with_a_damaged_topic_is_skipped_and_the_others_are_read(
    journal_at: Open, tmp_path: Path, logged: list[str]
) -> None:
    journal = journal_at()
    for n in range(5):
        await journal.append(NewEvent(TELEMETRY, b"%d" % n, BULK))
    journal_at().close()
    _execute(tmp_path / "journal.db", f"UPDATE events SET topic = {DAMAGED} WHERE CAST(body AS TEXT) = '2'")
    journal = journal_at()
    assert bodies(journal, BULK) == [b"0", b"1", b"3", b"4"]
    assert journal.damaged == 1


@pytest.mark.parametrize(
    "damage",
    [
        f"UPDATE meta SET value = {DAMAGED} WHERE key = 'edge'",
        f"UPDATE meta SET value = {DAMAGED} WHERE key = 'uuid'",
        "UPDATE meta SET value = 'many' WHERE key = 'opening'",
        "UPDATE meta SET value = 'two' WHERE key = 'version'",
        f"INSERT INTO meta VALUES ({DAMAGED}, 'x')",
        f"INSERT INTO producers VALUES ('worker/w', {DAMAGED}, 7)",
        f"INSERT INTO producers VALUES ({DAMAGED}, 'a1', 7)",
        "INSERT INTO producers VALUES ('other/w', 'a1', 7)",
    ],
)
async def test_a_damaged_text_is_set_aside_and_the_events_are_saved(
    journal_at: Open, tmp_path: Path, logged: list[str], damage: str
) -> None:
    journal = journal_at()
    for n in range(5):
        await journal.append(NewEvent(TELEMETRY, b"%d" % n, BULK))
    journal_at().close()
    _execute(tmp_path / "journal.db", damage)
    journal = journal_at()
    assert bodies(journal, BULK) == [b"0", b"1", b"2", b"3", b"4"]
    assert "5 events were saved" in logged[-1]
    await journal.append(NewEvent(TELEMETRY, b"new", BULK))


def _execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


async def test_damage_while_it_runs_ends_the_agent_and_the_next_start_mends_it(
    journal_at: Open, tmp_path: Path, logged: list[str]
) -> None:
    journal = journal_at()
    for n in range(500):
        await journal.append(NewEvent(TELEMETRY, b"%03d" % n + bytes(500), BULK))
    journal = journal_at()
    size = (tmp_path / "journal.db").stat().st_size
    with (tmp_path / "journal.db").open("r+b") as file:
        for page in range(size // 2 // 4096, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    with pytest.raises(HeliographError, match="Start the agent again: it saves the readable events"):
        journal.read(BULK, 0, 10**6, 10**9)
    with pytest.raises(HeliographError, match=r"journal\.db: database disk image is malformed"):
        await journal.failed
    assert len(bodies(journal_at(), BULK)) > 100


def _flip(path: Path, where: bytes, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(where)] ^= 1 << bit
    path.write_bytes(content)
