"""The stated life of a trace: a time in its metadata, after which ``heliograph gc --traces`` may delete it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from heliograph.bus.traces.reading import TraceReader
from heliograph.core.errors import HeliographError
from heliograph.core.world import rfc3339

KEPT_UNTIL = "kept_until"
"""Key of the metadata record at a trace's start."""
MOST = 100_000
"""Traces that are looked at, at most."""
DAY = 86400.0


def kept_until(now: float, days: float) -> str:
    """Return the time at which a trace's life ends that begins now."""
    return rfc3339(now + days * DAY)


def old_traces(directory: Path, now: float) -> tuple[list[tuple[Path, str]], list[str]]:
    """Return the traces below a directory whose stated life is over, each with its end; and a line about each that
    cannot be read. A trace that states no life is never among them, and links are not followed.

    Raises HeliographError if the MCAP library is missing.
    """
    found, notes = [], []
    for number, path in enumerate(sorted(directory.rglob("*.mcap"))):
        if number == MOST:
            notes.append(f"{directory} has more than {MOST:,} traces; the others were not looked at")
            break
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with TraceReader(path) as reader:
                until = reader.info.metadata.get(KEPT_UNTIL, "")
            if until and datetime.fromisoformat(until).timestamp() <= now:
                found.append((path, until))
        except (HeliographError, OSError, ValueError) as error:
            notes.append(f"{path} stays: {error}")
    return found, notes
