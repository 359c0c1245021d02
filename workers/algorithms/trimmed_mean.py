"""TrimmedMean: the mean of the updates without the largest and the smallest, coordinate by coordinate.

    w_j ← mean of the sorted j-th elements without the k smallest and the k largest        2k < n

Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018,
https://arxiv.org/abs/1803.01498, option II
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.base import Combined, LeastUpdates, Piece
from heliograph.workers.algorithms.fedavg import FedAvgParameters
from heliograph.workers.algorithms.robust import RobustAlgorithm


class TrimmedMeanParameters(FedAvgParameters):
    """The trimmed mean's parameters.

    Attributes:
        trimmed: elements that are left out at each end, k: as many updates as may be faulty. Updates that a check has
            refused are some of them.
    """

    trimmed: Annotated[int, Field(ge=0)] = 1


class TrimmedMean(RobustAlgorithm):
    """The mean of the elements in the middle."""

    Parameters = TrimmedMeanParameters
    least_updates = LeastUpdates("trimmed", times=2, plus=1)
    parameters: TrimmedMeanParameters

    def combine(self, piece: Piece) -> Combined:
        import numpy as np

        stacked = np.stack(piece.updates)
        stacked.sort(axis=0)
        trimmed: int = piece.plan
        middle = stacked[trimmed : len(stacked) - trimmed]
        return Combined(middle.mean(axis=0, dtype=np.float64).astype(stacked.dtype))
