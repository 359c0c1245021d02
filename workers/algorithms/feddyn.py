"""FedDyn: a dynamic regulariser in the local training (``local_terms/feddyn.py``), and its sum on the server.

    h ← h - α (1 / N) Σ (w_k - w)        w ← mean of w_k - h / α

The sum is over the participants of the round, N is the number of all edges of the job, and participants weigh alike.

Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021, https://arxiv.org/abs/2111.04263
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.base import Algorithm, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms.differences import base_of, mean_change
from heliograph.workers.algorithms.fedavg import FedAvgParameters
from heliograph.workers.algorithms.robust import uniform


class FedDynParameters(FedAvgParameters):
    """FedDyn's parameters.

    Attributes:
        alpha: the paper's α.
    """

    alpha: Annotated[float, Field(gt=0)] = 0.01


class FedDyn(Algorithm):
    """The mean of the updates less the server's part of the regulariser, ``h``."""

    Parameters = FedDynParameters
    needs_base = True
    state = ("h",)
    keeps_edge_state = True
    local_term = "FedDyn"
    parameters: FedDynParameters

    def decide(self, facts: RoundFacts) -> Decision:
        number = len(facts.edges)
        return Decision(weights=uniform(number), plan=number / max(facts.edges_of_job, number))

    def combine(self, piece: Piece) -> Combined:
        change = mean_change(piece)
        number = piece.state["h"].dtype.type
        h = piece.state["h"] - number(self.parameters.alpha * piece.plan) * change
        return Combined(base_of(piece) + change - h / number(self.parameters.alpha), state={"h": h})
