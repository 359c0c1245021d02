"""The frame of robust rules: each holds against a number of participants that send anything.

Updates weigh alike, since samples are an edge's own claim. Each rule needs a number of updates that grows with the
faulty ones it tolerates; a job that cannot reach it is refused, and so is a round. An update that a check has refused
in the round is one of the faulty ones: the rule has to tolerate as many fewer among the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from heliograph.workers.algorithms.base import Algorithm, Decision, LeastUpdates, RoundFacts


class RobustAlgorithm(Algorithm):
    """A robust rule. Its plan is the number of faulty updates that it tolerates in this round.

    Attributes:
        least_updates: the updates that a round needs.
    """

    combines_buffers = True  # a poisoned buffer harms as a poisoned weight does
    least_updates: ClassVar[LeastUpdates]

    def decide(self, facts: RoundFacts) -> Decision:
        least, number = self.least_updates, len(facts.edges)
        wanted = least.wanted(self.parameters)
        tolerated = min(wanted, least.allowed(number))
        if tolerated < max(0, wanted - facts.refused):
            needed = f"needs {least.of(self.parameters)} updates, and {number} came"
            why = f"{type(self).__name__} with {least.parameter} {wanted} {needed}"
            return Decision(excluded=dict.fromkeys(facts.edges, why))
        return Decision(weights=self.weigh(facts, tolerated), plan=tolerated)

    def weigh(self, facts: RoundFacts, tolerated: int) -> Sequence[float]:
        """Return the weights of a round's updates, which are enough."""
        return uniform(len(facts.edges))


def uniform(number: int) -> Sequence[float]:
    """Return equal weights."""
    return [1 / number] * number


def of_selected(selected: Sequence[int], number: int) -> Sequence[float]:
    """Return equal weights for the updates at these places, and 0 for the others."""
    chosen = frozenset(selected)
    return [1 / len(chosen) if at in chosen else 0.0 for at in range(number)]
