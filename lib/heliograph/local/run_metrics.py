"""The metrics of a run's rounds as JSON lines and as CSV, written while the run goes on."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliograph.bus.contract.payloads import Aggregation

PENDING = 3
"""Rounds whose evaluation is awaited before their line is written without it."""
_FIXED = ("round", "time", "seconds", "counted", "late", "refused", "samples", "closed_by")


class RunMetrics:
    """Writes a line for each closed round: ``train.…`` are the means of the edges' metrics, ``test.…`` the evaluation.

    Args:
        jsonl, table: the files.
        evaluated: whether the job evaluates its models: a round's line then waits for its evaluation.
    """

    def __init__(self, jsonl: Path, table: Path, evaluated: bool) -> None:
        self._jsonl, self._table = jsonl, table
        self._evaluated = evaluated
        self._waiting: dict[int, dict[str, Any]] = {}
        self._columns: list[str] = []

    def closed(self, round: Aggregation, time: str) -> None:
        """Add the close of a round at ``time``, RFC 3339."""
        if round.round == 0:
            return
        self._waiting[round.round] = {
            "round": round.round,
            "time": time,
            "seconds": round.duration_seconds,
            "counted": len(round.counted),
            "late": len(round.late),
            "refused": len(round.refused),
            "samples": round.num_samples,
            "closed_by": round.reason,
            **{f"train.{name}": value for name, value in sorted(round.metrics.items())},
        }
        self._write(len(self._waiting) - PENDING if self._evaluated else len(self._waiting))

    def evaluated(self, round: int, metrics: Mapping[str, float]) -> None:
        """Add the evaluation of a round's model."""
        if (record := self._waiting.get(round)) is not None:
            record |= {f"test.{name}": value for name, value in sorted(metrics.items())}
            self._write(sum(each <= round for each in self._waiting))

    def finish(self) -> None:
        """Write what still waits for an evaluation."""
        self._write(len(self._waiting))

    def _write(self, count: int) -> None:
        for number in sorted(self._waiting)[: max(0, count)]:
            record = self._waiting.pop(number)
            with self._jsonl.open("a") as file:
                file.write(json.dumps(record) + "\n")
            new = [name for name in record if name not in self._columns]
            if new:
                metrics = sorted({name for name in [*self._columns, *record] if name not in _FIXED})
                self._columns = [*_FIXED, *metrics]
                self._write_table()
            else:
                with self._table.open("a", newline="") as file:
                    csv.DictWriter(file, self._columns).writerow(record)

    def _write_table(self) -> None:
        """Write the whole table from the JSON lines: a metric has come that it has no column for."""
        partial = self._table.with_name(f".{self._table.name}.{os.getpid()}")
        with self._jsonl.open() as lines, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(map(json.loads, lines))
        partial.replace(self._table)
