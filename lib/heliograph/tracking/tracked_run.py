"""One job in one place: each round once, and each evaluation once, whoever wrote the ones before."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from heliograph.core.errors import HeliographError
from heliograph.tracking.closed_round import ClosedRound
from heliograph.tracking.run_writer import JobFacts, RunWriter, Written
from heliograph.tracking.values import TEST, RoundValues


class TrackedRun:
    """Takes the rounds of a job, oldest first, and writes those that its place lacks.

    Attributes:
        rounds, evaluations: how many this process has written.
        newest: the newest round that the place has; 0 before the first.
        broken: whether a write has failed. It may have been done; the run is to be opened again.
    """

    def __init__(self, writer: RunWriter, job: JobFacts) -> None:
        self.rounds = 0
        self.evaluations = 0
        self.newest = 0
        self.broken = False
        self._lock = threading.Lock()  # who is cancelled closes the run while a write may still go on
        self._writer = writer
        self._job = job
        self._written = Written()
        self._values = RoundValues({})

    @property
    def place(self) -> str:
        return self._writer.place

    def open(self) -> None:
        """Find out what the place has. Raise as ``RunWriter.open`` does."""
        with self._lock:
            self._written = self._writer.open(self._job)
        self._values = RoundValues(self._written.sums)
        self.newest = max(self._written.rounds, default=0)
        self.broken = False

    def lacks(self, number: int) -> bool:
        return number not in self._written.rounds

    def lacks_evaluation(self, number: int) -> bool:
        return number not in self._written.evaluated

    def take(self, closed: ClosedRound, totals: Mapping[str, int] | None) -> None:
        """Write a round, unless the place has it."""
        if not closed.number:
            if not self._written.rounds:
                self._values.pass_over(closed)
        elif self.lacks(closed.number):
            self._write(closed.number, closed.time, self._values.of(closed, totals))
            self._written.rounds.add(closed.number)
            self.newest = max(self.newest, closed.number)
            self.rounds += 1

    def take_evaluation(self, number: int, metrics: Mapping[str, float], time: float) -> None:
        """Write the metrics on held-out data of a round's model, which the place lacks."""
        if metrics and number:
            self._write(number, time, {f"{TEST}{name}": value for name, value in sorted(metrics.items())})
            self._written.evaluated.add(number)
            self.evaluations += 1

    def close(self, phase: str = "") -> None:
        with self._lock:
            self._writer.close(phase)

    def _write(self, step: int, time: float, values: Mapping[str, float]) -> None:
        with self._lock:
            try:
                self._writer.write(step, time, values)
            except HeliographError:
                self.broken = True
                raise
