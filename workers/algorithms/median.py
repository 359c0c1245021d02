"""Median: the median of the updates, coordinate by coordinate.

Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018,
https://arxiv.org/abs/1803.01498, option I
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.base import Combined, LeastUpdates, Piece
from heliograph.workers.algorithms.fedavg import FedAvgParameters
from heliograph.workers.algorithms.robust import RobustAlgorithm


class MedianParameters(FedAvgParameters):
    """The median's parameters.

    Attributes:
        byzantine: updates that may be faulty, fewer than half of them.
    """

    byzantine: Annotated[int, Field(ge=0)] = 0


class Median(RobustAlgorithm):
    """The middle of each coordinate; of an even number the mean of the two in the middle."""

    Parameters = MedianParameters
    least_updates = LeastUpdates("byzantine", times=2, plus=1)

    def combine(self, piece: Piece) -> Combined:
        import numpy as np

        stacked = np.stack(piece.updates)
        middle = np.median(stacked, axis=0, overwrite_input=True)
        return Combined(middle.astype(stacked.dtype, copy=False))
