"""The frame of robust rules: each holds against a number of participants that send anything.

Updates weigh alike, since samples are an edge's own claim. Each rule needs a number of updates that grows with the
faulty ones; a job that cannot reach it is refused, and so is a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from heliograph.workers.algorithms.base import Algorithm, Decision, LeastUpdates, RoundFacts


class RobustAlgorithm(Algorithm):
    """A robust rule.

    Attributes:
        least_updates: the updates that a round needs.
    """

    combines_buffers = True  # a poisoned buffer harms as a poisoned weight does
    least_updates: ClassVar[LeastUpdates]

    def decide(self, facts: RoundFacts) -> Decision:
        least = self.least_updates.of(self.parameters)
        if len(facts.edges) < least:
            why = (f"{type(self).__name__} with {self.least_updates.parameter} "
                   f"{getattr(self.parameters, self.least_updates.parameter)} needs {least} updates, and "
                   f"{len(facts.edges)} came")  # fmt: skip
            return Decision(excluded=dict.fromkeys(facts.edges, why))
        return self.choose(facts)

    def choose(self, facts: RoundFacts) -> Decision:
        """Return the decision on a round with enough updates."""
        return Decision(weights=uniform(len(facts.edges)))


def uniform(number: int) -> Sequence[float]:
    """Return equal weights."""
    return [1 / number] * number
