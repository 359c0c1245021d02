"""FedNova: updates of edges that took different numbers of local steps, each normalised by its own.

    w ← w + τ_eff Σ p_k Δ_k / ‖a_k‖₁        τ_eff = Σ p_k ‖a_k‖₁

a_k says how much each local gradient weighs in Δ_k, and ‖a_k‖₁ is its sum: for plain gradient descent the number of
local steps τ_k; with momentum ρ it is (τ_k - ρ(1 - ρ^τ_k) / (1 - ρ)) / (1 - ρ). p_k are the shares of the samples.

Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization", NeurIPS 2020,
https://arxiv.org/abs/2007.07481
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heliograph.workers.algorithms.base import Algorithm, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms.differences import moved, squared_norms
from heliograph.workers.algorithms.fedavg import FedAvgParameters
from heliograph.workers.algorithms.reported import LOCAL_MOMENTUM, LOCAL_STEPS, reported

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MOST_STEPS = 1e7
COMPARED = 3
"""Updates whose changes a step are compared with each other, at least."""


class FedNovaParameters(FedAvgParameters):
    """FedNova's parameters are FedAvg's."""


class FedNova(Algorithm):
    """The mean of the changes a step, times the mean number of steps.

    A participant that claims too few steps makes its change a step larger. So ``norm_factor`` bounds that too.
    """

    Parameters = FedNovaParameters
    needs_base = True
    measures = True
    needs = (LOCAL_STEPS,)
    parameters: FedNovaParameters

    def measure(self, piece: Piece) -> Array:
        return squared_norms(piece)

    def decide(self, facts: RoundFacts) -> Decision:
        steps, without = reported(facts, LOCAL_STEPS, 1, MOST_STEPS)
        momentum, wrong = reported(facts, LOCAL_MOMENTUM, 0, 0.9999, default=0.0)
        without |= wrong
        norms = {edge: sum_of_weights(steps[edge], momentum[edge]) for edge in facts.edges if edge not in without}
        without |= self._too_far(facts, norms)
        counted = {edge: number for edge, number in norms.items() if edge not in without}
        samples = dict(zip(facts.edges, facts.num_samples, strict=True))
        total = sum(samples[edge] for edge in counted)
        weights = [samples[edge] / total for edge in counted]
        effective = sum(weight * number for weight, number in zip(weights, counted.values(), strict=True))
        factors = [weight * effective / number for weight, number in zip(weights, counted.values(), strict=True)]
        return Decision(excluded=without, weights=weights, plan=factors)

    def _too_far(self, facts: RoundFacts, norms: Mapping[str, float]) -> dict[str, str]:
        factor = self.parameters.norm_factor
        if factor <= 0 or len(norms) < COMPARED:
            return {}
        assert facts.measured is not None
        moved_by = dict(zip(facts.edges, facts.measured, strict=True))
        each_step = {edge: float(moved_by[edge]) ** 0.5 / number for edge, number in norms.items()}
        most = factor * statistics.median_low(each_step.values())
        return {
            edge: f"metric {LOCAL_STEPS}: the update moved {distance:g} in a step, more than {factor:g} times the "
            "median of its round (norm_factor)"
            for edge, distance in each_step.items()
            if distance > most > 0
        }

    def combine(self, piece: Piece) -> Combined:
        return Combined(moved(piece, piece.plan))


def sum_of_weights(steps: float, momentum: float) -> float:
    """Return ‖a‖₁ of so many steps of gradient descent with that momentum."""
    if momentum == 0:
        return steps
    return (steps - momentum * (1 - float(momentum**steps)) / (1 - momentum)) / (1 - momentum)
