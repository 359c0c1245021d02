"""A place that remembers what is written, across trackers, and fails when a test wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heliograph.core.errors import Unreachable
from heliograph.tracking.run_writer import JobFacts, Written
from heliograph.tracking.values import COUNTED


@dataclass
class RememberingRun:
    """Attributes:
    records: step, time and values of each write.
    closed: phases with which it was closed.
    failing: writes after which one fails; it is done all the same.
    """

    place: str = "memory"
    records: list[tuple[int, float, Mapping[str, float]]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    opened: list[JobFacts] = field(default_factory=list)
    failing: set[int] = field(default_factory=set)

    def require(self) -> None: ...

    def open(self, job: JobFacts) -> Written:
        self.opened.append(job)
        found = Written()
        for step, _, values in self.records:
            (found.rounds if COUNTED in values else found.evaluated).add(step)
            found.sums |= values
        return found

    def write(self, step: int, time: float, values: Mapping[str, float]) -> None:
        self.records.append((step, time, values))
        if len(self.records) in self.failing:
            raise Unreachable("no answer came")

    def close(self, phase: str = "") -> None:
        self.closed.append(phase)

    @property
    def rounds(self) -> list[int]:
        """The steps of the rounds, in the order of their writing."""
        return [step for step, _, values in self.records if COUNTED in values]

    @property
    def evaluations(self) -> list[int]:
        return [step for step, _, values in self.records if COUNTED not in values]

    def curve(self, name: str) -> list[tuple[int, float]]:
        return [(step, values[name]) for step, _, values in self.records if name in values]
