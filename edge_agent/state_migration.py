"""Migrate an agent's state directory, step by step, from the format of an earlier version.

A step may be interrupted at any instant and begins again at the next start: the new format is recorded after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from heliograph.bus.contract.former_names import present_address
from heliograph.edge_agent.event_checksum import checksum
from heliograph.edge_agent.producers import DEVICE, WORKER

FORMAT = 4
"""Format 1: heliograph 0.1. Format 2: weights that wait for their upload lie under ``staged``. Format 3: producers bear
their kind, a worker's or a device's. Format 4: events have the topics of 0.2, which begin with their edge."""


def migrate(directory: Path, journal: sqlite3.Connection, format: int) -> None:
    """Migrate a state directory and its journal from that format to the next. Raises OSError, sqlite3.Error."""
    _STEPS[format](directory, journal)


def _rename_outbox(directory: Path, journal: sqlite3.Connection) -> None:
    """Move weights that wait for their upload from ``outbox``, the name in 0.1: events in the journal refer to them."""
    for outbox in sorted(directory.glob("workers/*/outbox")):
        staged = outbox.with_name("staged")
        staged.mkdir(exist_ok=True)
        for file in sorted(outbox.iterdir()):
            file.rename(staged / file.name)
        outbox.rmdir()


def _add_kinds(directory: Path, journal: sqlite3.Connection) -> None:
    """Note each producer as a worker and as a device: earlier formats did not say which of the two it was."""
    journal.execute("BEGIN IMMEDIATE")
    for kind in (WORKER, DEVICE):
        journal.execute(
            "INSERT OR IGNORE INTO producers SELECT ? || '/' || producer, incarnation, sequence FROM producers "
            "WHERE instr(producer, '/') = 0",
            (kind,),
        )
    journal.execute("DELETE FROM producers WHERE instr(producer, '/') = 0")
    journal.execute("COMMIT")


def _rename_topics(directory: Path, journal: sqlite3.Connection) -> None:
    """Give each waiting event the present address of its topic; leave a damaged one as it is."""
    (edge,) = journal.execute("SELECT value FROM meta WHERE key = 'edge'").fetchone()
    journal.execute("BEGIN IMMEDIATE")
    for (topic,) in journal.execute("SELECT DISTINCT topic FROM events").fetchall():
        present = present_address(topic, edge)
        if present == topic:
            continue
        for id, body, crc in journal.execute("SELECT id, body, crc FROM events WHERE topic = ?", (topic,)):
            if crc == checksum(topic, body):
                renamed = (present, checksum(present, body), id)
                journal.execute("UPDATE events SET topic = ?, crc = ? WHERE id = ?", renamed)
    journal.execute("COMMIT")


_STEPS: Mapping[int, Callable[[Path, sqlite3.Connection], None]] = {
    1: _rename_outbox, 2: _add_kinds, 3: _rename_topics,
}  # fmt: skip
