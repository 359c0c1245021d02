"""q-FedAvg: edges with a larger loss weigh more, so that accuracies are spread more evenly.

    Δ_k = F_k^q L(w - w_k)        h_k = q F_k^(q-1) ‖L(w - w_k)‖² + L F_k^q        w ← w - Σ Δ_k / Σ h_k

F_k is the loss of the received model on edge k, before its training; L is 1 / η of the local training. Edges weigh
alike: the paper draws them by their samples.

Li, Sanjabi, Beirami, Smith, "Fair Resource Allocation in Federated Learning", ICLR 2020,
https://arxiv.org/abs/1905.10497, algorithm 2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from heliograph.workers.algorithms.base import Algorithm, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms.differences import moved, squared_norms
from heliograph.workers.algorithms.fedavg import FedAvgParameters
from heliograph.workers.algorithms.reported import RECEIVED_LOSS, reported

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SMALLEST_LOSS = 1e-10
"""Added to each loss, as the paper's own code does: with q below 1 a loss of 0 has no power of q - 1."""
LARGEST_LOSS = 1e6
"""A loss above it is no loss but a claim: it would decide the round alone."""


class QFedAvgParameters(FedAvgParameters):
    """q-FedAvg's parameters.

    Attributes:
        q: 0 is the plain mean of the updates; the larger, the fairer.
    """

    q: Annotated[float, Field(ge=0, le=100)] = 1.0


class QFedAvg(Algorithm):
    """Changes weighted by powers of the losses, and a step as long as they allow."""

    Parameters = QFedAvgParameters
    needs_base = True
    measures = True
    needs = (RECEIVED_LOSS,)
    parameters: QFedAvgParameters

    def measure(self, piece: Piece) -> Array:
        return squared_norms(piece)

    def decide(self, facts: RoundFacts) -> Decision:
        losses, without = reported(facts, RECEIVED_LOSS, 0, LARGEST_LOSS)
        if not losses:
            return Decision(excluded=without)
        assert facts.measured is not None
        q, lipschitz = self.parameters.q, 1 / self.parameters.learning_rate
        measured = dict(zip(facts.edges, facts.measured, strict=True))
        changes, steps = [], 0.0
        for edge, loss in losses.items():
            loss += SMALLEST_LOSS
            changes.append(lipschitz * loss**q)
            steps += q * loss ** (q - 1) * lipschitz**2 * float(measured[edge]) + lipschitz * loss**q
        uniform = [1 / len(losses)] * len(losses)
        return Decision(excluded=without, weights=uniform, plan=[each / steps for each in changes])

    def combine(self, piece: Piece) -> Combined:
        return Combined(moved(piece, piece.plan))
