"""SCAFFOLD: control variates correct the drift of participants (``local_terms/scaffold.py``).

    x ← x + η_g mean of (y_k - x)        c ← c + (|S| / N) mean of (c_k⁺ - c_k)

|S| participants of N sent an update. They weigh alike, as in the paper.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020,
https://arxiv.org/abs/1910.06378
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.base import Algorithm, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms.differences import base_of, mean_change
from heliograph.workers.algorithms.fedavg import FedAvgParameters, weighted_mean
from heliograph.workers.algorithms.robust import uniform


class SCAFFOLDParameters(FedAvgParameters):
    """SCAFFOLD's parameters.

    Attributes:
        server_learning_rate: the paper's η_g.
    """

    server_learning_rate: Annotated[float, Field(gt=0)] = 1.0


class SCAFFOLD(Algorithm):
    """The mean change, and the control variate ``c`` for the next round."""

    Parameters = SCAFFOLDParameters
    needs_base = True
    beside = ("control",)
    state = ("control",)
    down = ("control",)
    keeps_edge_state = True
    local_term = "SCAFFOLD"
    parameters: SCAFFOLDParameters

    def decide(self, facts: RoundFacts) -> Decision:
        number = len(facts.edges)
        return Decision(weights=uniform(number), plan=number / max(facts.edges_of_job, number))

    def combine(self, piece: Piece) -> Combined:
        control = piece.state["control"] + piece.state["control"].dtype.type(piece.plan) * weighted_mean(
            piece.beside["control"], piece.weights
        )
        change = mean_change(piece)
        model = base_of(piece) + change.dtype.type(self.parameters.server_learning_rate) * change
        return Combined(model, state={"control": control}, down={"control": control})
