"""FedAvgM: FedAvg with momentum on the server.

    v ← βv + Δ        w ← w + ηv        Δ: the weighted mean of the updates' changes

Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019,
https://arxiv.org/abs/1909.06335
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.base import Algorithm, Combined, Piece
from heliograph.workers.algorithms.differences import base_of, mean_change
from heliograph.workers.algorithms.fedavg import FedAvgParameters


class FedAvgMParameters(FedAvgParameters):
    """FedAvgM's parameters.

    Attributes:
        server_learning_rate: the paper's η on the server.
        server_momentum: the paper's β.
    """

    server_learning_rate: Annotated[float, Field(gt=0)] = 1.0
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class FedAvgM(Algorithm):
    """The mean change with momentum; the state is the velocity ``v``."""

    Parameters = FedAvgMParameters
    needs_base = True
    state = ("v",)
    parameters: FedAvgMParameters

    def combine(self, piece: Piece) -> Combined:
        velocity = piece.state["v"] * piece.state["v"].dtype.type(self.parameters.server_momentum)
        velocity += mean_change(piece)
        rate = velocity.dtype.type(self.parameters.server_learning_rate)
        return Combined(base_of(piece) + rate * velocity, state={"v": velocity})
