"""What writes the values of one job's rounds, and what it knows of those that it has written before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class JobFacts:
    """What identifies a job, and what it was given.

    Attributes:
        series: uid of the job, the same where it was stopped and goes on; another job of its name has another.
        parameters: algorithm, number of rounds, parameters of the workers, by name.
    """

    name: str
    series: str
    model: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Written:
    """What was written before.

    Attributes:
        rounds: numbers of the rounds that are whole.
        evaluated: numbers of the rounds whose evaluation is known to be whole; that of another one may be there.
        sums: newest values by name, to go on from.
    """

    rounds: set[int] = field(default_factory=set)
    evaluated: set[int] = field(default_factory=set)
    sums: dict[str, float] = field(default_factory=dict)


class RunWriter(Protocol):
    """Writes to one place. Its methods block, and raise HeliographError where the place cannot be written, Unreachable
    where it may be later."""

    place: str
    """Where the values are, and how one sees them; known once it is open."""

    def require(self) -> None:
        """Raise HeliographError where a package is missing, or the place cannot be reached or written."""
        ...

    def open(self, job: JobFacts) -> Written:
        """Open the run of a job, made where there is none, and return what it has. Opening it again reads it again."""
        ...

    def write(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Write values of one round, those that are not there. Once it returns they outlive the process."""
        ...

    def close(self, phase: str = "") -> None:
        """Close the run.

        Args:
            phase: that in which the job has ended; empty where it goes on and may be tracked again.
        """
        ...
