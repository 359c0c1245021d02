"""What became of each edge's updates over a job: counted, late, refused and why, or missing; said in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from heliograph.bus.contract.payloads import Aggregation

REASONS = 3
"""Different reasons of one edge's refusals that a sentence names."""
NAMED = 6
"""Edges that a sentence about several names."""


@dataclass
class Updates:
    """One edge's updates, each list with the numbers of their rounds.

    Attributes:
        refused: reason to the rounds in which it was the reason.
        unchanged: rounds whose counted update was equal to the model that it was trained from.
        asked: the last round in which the script asked to stop; 0 if it has not. Rounds after it are not missed.
    """

    counted: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    refused: dict[str, list[int]] = field(default_factory=dict)
    unchanged: list[int] = field(default_factory=list)
    asked: int = 0

    def sentence(self, rounds: Sequence[int]) -> str:
        """Describe the updates of an edge that took part in a job with these closed rounds."""
        parts = [f"counted in {spans(self.counted)}"] if self.counted else ["never counted"]
        if self.late:
            parts.append(f"too late for {spans(self.late)}")
        for reason, numbers in list(self.refused.items())[:REASONS]:
            parts.append(f"refused in {spans(numbers)}: {reason}")
        if len(self.refused) > REASONS:
            parts.append(f"refused for {len(self.refused) - REASONS} further reasons")
        known = {*self.counted, *self.late, *(number for numbers in self.refused.values() for number in numbers)}
        last = max(self.asked, *self.counted, 0) if self.asked else max(rounds, default=0)
        if absent := [number for number in rounds if number not in known and number <= last]:
            parts.append(f"missing in {spans(absent)}")
        if self.asked:
            parts.append(f"asked to stop in round {self.asked}")
        if self.unchanged:
            parts.append(f"unchanged by its training in {spans(self.unchanged)}")
        return "; ".join(parts)


class EdgeCounts:
    """The updates of every edge of a job, collected from the closes of its rounds.

    Args:
        edges: the edges that train.
    """

    def __init__(self, edges: Iterable[str]) -> None:
        self.edges = {edge: Updates() for edge in edges}
        self.rounds: list[int] = []
        """Numbers of the closed rounds, from 1."""

    def add(self, closed: Aggregation) -> None:
        """Add the close of a round; round 0, which only takes the initial weights, says nothing about training."""
        if closed.round > 0:
            self.rounds.append(closed.round)
            for edge in closed.counted:
                self._of(edge).counted.append(closed.round)
            for edge in closed.unchanged:
                self._of(edge).unchanged.append(closed.round)
            for edge in closed.stopping:
                self._of(edge).asked = closed.round
        for each in closed.refused:
            self._of(each.edge).refused.setdefault(each.reason, []).append(each.round)
        for each in closed.late:
            self._of(each.edge).late.append(each.round)

    @property
    def uncounted(self) -> list[str]:
        """The edges without any counted update, once a round has closed."""
        return [edge for edge, updates in self.edges.items() if self.rounds and not updates.counted]

    def lines(self) -> list[str]:
        """Return a line for each different fate, those of most trouble first, with the edges that share it."""
        if not self.rounds:
            return []
        shared: dict[str, list[str]] = {}
        for edge, updates in self.edges.items():
            shared.setdefault(updates.sentence(self.rounds), []).append(edge)
        order = sorted(shared.items(), key=lambda item: len(self.edges[item[1][0]].counted))
        return [f"{named(edges)}: {sentence}" for sentence, edges in order]

    def _of(self, edge: str) -> Updates:
        return self.edges.setdefault(edge, Updates())


def named(edges: Sequence[str]) -> str:
    """Return the first few names, and the number of the others."""
    shown = ", ".join(edges[:NAMED])
    return f"{shown} and {len(edges) - NAMED} more" if len(edges) > NAMED else shown


def spans(numbers: Iterable[int]) -> str:
    """Return ``rounds 1-3, 7-10`` for these numbers."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
    one = len(found) == 1 and found[0][0] == found[0][1]
    return f"round{'' if one else 's'} {text}"
