"""Sums over the changes of updates, their differences from the base model, which several algorithms need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heliograph.workers.algorithms.base import Piece
from heliograph.workers.algorithms.fedavg import weighted_mean

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def base_of(piece: Piece) -> Array:
    """Return the base of a piece, whose algorithm has said that it needs it."""
    assert piece.base is not None
    return piece.base


def mean_change(piece: Piece, weights: Sequence[float] | None = None) -> Array:
    """Return the mean of the changes, weighted by ``weights``, by default the edges'; overwrite the updates."""
    change = weighted_mean(piece.updates, piece.weights if weights is None else weights)
    change -= base_of(piece)
    return change


def moved(piece: Piece, factors: Sequence[float]) -> Array:
    """Return the base plus the sum of the changes, each times its factor; overwrite the updates."""
    import numpy as np

    base = base_of(piece)
    total = base.copy()
    for block, factor in zip(piece.updates, factors, strict=True):
        block -= base
        np.multiply(block, block.dtype.type(factor), out=block)
        total += block
    return total


def squared_norms(piece: Piece) -> Array:
    """Return the sum of squares of each update's changes: float64, one for each edge."""
    import numpy as np

    base = base_of(piece).astype(np.float64)
    changes = (block - base for block in piece.updates)
    return np.array([float(np.dot(change, change)) for change in changes])


def inner_products(piece: Piece) -> Array:
    """Return the inner products of the changes of all pairs of updates: float64, (edges, edges).

    Products of changes, not of whole weights: the distance of two updates that moved little is then as exact as the
    distance that they moved, however large the weights are, and however far a third one went.
    """
    import numpy as np

    base = base_of(piece)
    changes = np.empty((len(piece.updates), len(base)), np.float64)
    for row, block in zip(changes, piece.updates, strict=True):
        np.subtract(block, base, out=row, dtype=np.float64)
    products: Array = changes @ changes.T
    return products


def squared_distances(products: Array) -> Array:
    """Return the squared distances of all pairs of updates from their ``inner_products``."""
    import numpy as np

    squares = np.diagonal(products)
    distances: Array = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    return distances
