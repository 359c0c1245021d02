"""Migrate an agent's state directory, step by step, from the format of an earlier version.

A step may be interrupted at any instant and begins again at the next start: the new format is recorded after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

FORMAT = 2
"""Format 1: heliograph 0.1. Format 2: weights that wait for their upload lie under ``staged``."""


def migrate(directory: Path, format: int) -> None:
    """Migrate a state directory from that format to the next. Raises OSError."""
    _STEPS[format](directory)


def _rename_outbox(directory: Path) -> None:
    """Move weights that wait for their upload from ``outbox``, the name in 0.1: events in the journal refer to them."""
    for outbox in sorted(directory.glob("workers/*/outbox")):
        staged = outbox.with_name("staged")
        staged.mkdir(exist_ok=True)
        for file in sorted(outbox.iterdir()):
            file.rename(staged / file.name)
        outbox.rmdir()


_STEPS: Mapping[int, Callable[[Path], None]] = {1: _rename_outbox}
