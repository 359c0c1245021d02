"""Bulyan: select updates by Krum again and again, then take the middle of each coordinate.

    1. θ = n - 2f times: move the update that Krum selects among those that are left into the selection.
    2. w_j ← mean of the β = θ - 2f selected elements that lie nearest to their median        n ≥ 4f + 3

Krum's scores are taken anew after each selection, from the updates that are left: one pass that takes the θ smallest
scores is another rule, which an attacker can pass with several updates that stand close together.

El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018,
https://arxiv.org/abs/1802.07927
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heliograph.workers.algorithms.base import Combined, LeastUpdates, Piece, RoundFacts
from heliograph.workers.algorithms.differences import inner_products, squared_distances
from heliograph.workers.algorithms.krum import KrumParameters, krum_scores
from heliograph.workers.algorithms.robust import RobustAlgorithm, of_selected

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class BulyanParameters(KrumParameters):
    """Bulyan's parameters are Krum's."""


class Bulyan(RobustAlgorithm):
    """The middle elements of the updates that Krum selects."""

    Parameters = BulyanParameters
    needs_base = True
    measures = True
    least_updates = LeastUpdates("byzantine", times=4, plus=3)
    parameters: BulyanParameters

    def measure(self, piece: Piece) -> Array:
        return inner_products(piece)

    def weigh(self, facts: RoundFacts, tolerated: int) -> Sequence[float]:
        assert facts.measured is not None
        return of_selected(selection(squared_distances(facts.measured), tolerated), len(facts.edges))

    def combine(self, piece: Piece) -> Combined:
        import numpy as np

        stacked = np.stack([block for block, weight in zip(piece.updates, piece.weights, strict=True) if weight > 0])
        kept = len(stacked) - 2 * piece.plan
        stacked.sort(axis=0)
        median = np.median(stacked, axis=0)
        # the nearest to the median stand next to each other among the sorted ones: find where they begin
        last = len(stacked) - kept
        spread = np.stack([np.maximum(median - stacked[at], stacked[at + kept - 1] - median) for at in range(last + 1)])
        begin = spread.argmin(axis=0)
        rows = begin[None, :] + np.arange(kept)[:, None]
        middle = np.take_along_axis(stacked, rows, axis=0).mean(axis=0, dtype=np.float64)
        return Combined(middle.astype(stacked.dtype))


def selection(distances: Array, byzantine: int) -> list[int]:
    """Return the places of the θ updates that Krum selects one after the other."""
    import numpy as np

    left, chosen = list(range(len(distances))), list[int]()
    for _ in range(len(distances) - 2 * byzantine):
        scores = krum_scores(distances[np.ix_(left, left)], byzantine)
        chosen.append(left.pop(int(scores.argmin())))
    return chosen
