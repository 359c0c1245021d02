"""RFA: the geometric median of the updates, the point whose distances from them have the smallest sum.

    Weiszfeld's steps, smoothed:   β_k ← 1 / max(ν, ‖z - w_k‖)        z ← Σ β_k w_k / Σ β_k

The median is of whole updates, not of coordinates. Each z is a mean of the updates, so that its distances follow from
the inner products of their changes, and the updates are read twice, however many steps there are.

Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE Transactions on Signal Processing 2022,
https://arxiv.org/abs/1912.13445
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from heliograph.workers.algorithms.base import Combined, LeastUpdates, Piece, RoundFacts
from heliograph.workers.algorithms.differences import inner_products
from heliograph.workers.algorithms.fedavg import FedAvgParameters, weighted_mean
from heliograph.workers.algorithms.robust import RobustAlgorithm

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class RFAParameters(FedAvgParameters):
    """RFA's parameters.

    Attributes:
        byzantine: updates that may be faulty, fewer than half of them.
        smoothing: the paper's ν, the distance below which updates weigh alike.
        iterations: Weiszfeld's steps, at most.
        tolerance: the largest change of a weight at which the steps end.
    """

    byzantine: Annotated[int, Field(ge=0)] = 0
    smoothing: Annotated[float, Field(gt=0)] = 1e-6
    iterations: Annotated[int, Field(ge=1, le=100_000)] = 1000
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-9


class RFA(RobustAlgorithm):
    """The updates' mean with the weights of their geometric median."""

    Parameters = RFAParameters
    needs_base = True
    measures = True
    least_updates = LeastUpdates("byzantine", times=2, plus=1)
    parameters: RFAParameters

    def measure(self, piece: Piece) -> Array:
        return inner_products(piece)

    def weigh(self, facts: RoundFacts, tolerated: int) -> Sequence[float]:
        assert facts.measured is not None
        given = self.parameters
        weights = median_weights(facts.measured, given.smoothing, given.iterations, given.tolerance)
        return [float(each) for each in weights]

    def combine(self, piece: Piece) -> Combined:
        return Combined(weighted_mean(piece.updates, piece.weights))


def median_weights(products: Array, smoothing: float, iterations: int, tolerance: float) -> Array:
    """Return the weights of the updates in their geometric median, which sum to 1.

    Args:
        products: inner products of the changes of all pairs.
    """
    import numpy as np

    number = len(products)
    weights = np.full(number, 1 / number)
    own = np.eye(number)
    for _ in range(iterations):
        apart = weights - own  # row k: z - w_k, as a sum of changes
        squares = np.einsum("ki,ij,kj->k", apart, products, apart, optimize=True)
        inverse = 1 / np.maximum(np.sqrt(np.maximum(squares, 0.0)), smoothing)
        after = inverse / inverse.sum()
        done = np.abs(after - weights).max() <= tolerance
        weights = after
        if done:
            break
    return weights
