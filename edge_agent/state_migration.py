"""Migrate an agent's state directory, step by step, from the format of an earlier version.

A step may be interrupted at any instant and begins again at the next start: the new format is recorded after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from heliograph.edge_agent.producers import DEVICE, WORKER

FORMAT = 3
"""Format 1: heliograph 0.1. Format 2: weights that wait for their upload lie under ``staged``. Format 3: producers bear
their kind, a worker's or a device's."""


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


_STEPS: Mapping[int, Callable[[Path, sqlite3.Connection], None]] = {1: _rename_outbox, 2: _add_kinds}
