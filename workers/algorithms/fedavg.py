"""FedAvg: the mean of the updates, weighted by their samples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
https://arxiv.org/abs/1602.05629
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from heliograph.workers.algorithms.base import Algorithm, AlgorithmParameters, Combined, Piece

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class FedAvgParameters(AlgorithmParameters):
    """FedAvg's parameters: ``batch_size``, ``learning_rate`` and ``local_epochs``, the paper's B, eta and E, go to the
    participants' scripts."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    local_epochs: Annotated[int, Field(ge=1)] = 1


class FedAvg(Algorithm):
    """The mean of the updates, weighted by their samples."""

    Parameters = FedAvgParameters

    def combine(self, piece: Piece) -> Combined:
        return Combined(weighted_mean(piece.updates, piece.weights))


def weighted_mean(blocks: Sequence[Array], weights: Sequence[float]) -> Array:
    """Return the weighted mean of the same piece of each update, summed in their order.

    Args:
        blocks: arrays of one shape and one float dtype; overwritten.
        weights: one for each block, summing to 1.
    """
    import numpy as np

    total = blocks[0]
    total *= total.dtype.type(weights[0])
    for block, weight in zip(blocks[1:], weights[1:], strict=True):
        np.multiply(block, block.dtype.type(weight), out=block)
        total += block
    return total
