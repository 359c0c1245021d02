"""The interface between the demo and what shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Accuracies:
    """Shares of test images that a version gets right: of the digits known from the beginning, of the others, and of
    all of them turned."""

    known: float
    new: float
    turned: float

    @property
    def overall(self) -> float:
        """The share of all test images, upright and turned: half of the digits are among the known ones."""
        return ((self.known + self.new) / 2 + self.turned) / 2


@dataclass(frozen=True)
class RoundRow:
    """One ended round.

    Attributes:
        part: what the stream was showing when it ended.
        labelled, seen: images so far.
        decision: ``deployed``, ``refused`` and so on, as the job's status says it.
        version: number of the version; None where none was registered.
        before, after: of the version that served before and after the round.
    """

    round: int
    part: str
    labelled: int
    seen: int
    decision: str
    version: int | None
    before: Accuracies
    after: Accuracies


class DemoDisplay(Protocol):
    """A view of the demo. No method blocks or raises."""

    def doing(self, what: str) -> None:
        """Show a step before the stream begins."""

    def stream(self, part: str, seen: int, total: int, labelled: int, right: int) -> None:
        """Show how far the stream is, and how many answers have been right."""

    def step(self, round: int, step: str, waiting: int) -> None:
        """Show the step of the job's round, and the labelled samples that wait for the next."""

    def serving(self, versions: Mapping[str, str]) -> None:
        """Show the version that serves on each edge."""

    def ended(self, row: RoundRow) -> None:
        """Show an ended round."""

    def note(self, line: str, good: bool = True) -> None:
        """Show a line of its own, for a good or a bad event."""
