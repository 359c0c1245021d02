"""Krum: the update that lies nearest to its neighbours. MultiKrum: the mean of the nearest ones.

    score(i) = Σ ‖w_i - w_j‖² over the n - f - 2 updates j that lie nearest to i        n ≥ 2f + 3

Ties go to the edge whose name comes first.

Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
NeurIPS 2017, https://papers.nips.cc/paper/6617
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from heliograph.workers.algorithms.base import Combined, LeastUpdates, Piece, RoundFacts
from heliograph.workers.algorithms.differences import inner_products, squared_distances
from heliograph.workers.algorithms.fedavg import FedAvgParameters, weighted_mean
from heliograph.workers.algorithms.robust import RobustAlgorithm, of_selected

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class KrumParameters(FedAvgParameters):
    """Krum's parameters.

    Attributes:
        byzantine: updates that may be faulty, the paper's f.
    """

    byzantine: Annotated[int, Field(ge=0)] = 1


class MultiKrumParameters(KrumParameters):
    """MultiKrum's parameters.

    Attributes:
        selected: updates of which the mean is taken, the paper's m; by default all but the faulty ones, n - f.
    """

    selected: Annotated[int, Field(ge=1)] | None = None


class Krum(RobustAlgorithm):
    """The update with the smallest score."""

    Parameters = KrumParameters
    needs_base = True
    measures = True
    least_updates = LeastUpdates("byzantine", times=2, plus=3)
    parameters: KrumParameters

    def measure(self, piece: Piece) -> Array:
        return inner_products(piece)

    def weigh(self, facts: RoundFacts, tolerated: int) -> Sequence[float]:
        assert facts.measured is not None
        scores = krum_scores(squared_distances(facts.measured), tolerated)
        return of_selected(self.winners(scores, tolerated), len(facts.edges))

    def winners(self, scores: Array, tolerated: int) -> Sequence[int]:
        """Return the places of the selected updates."""
        return [int(scores.argmin())]

    def combine(self, piece: Piece) -> Combined:
        chosen = [(block, weight) for block, weight in zip(piece.updates, piece.weights, strict=True) if weight > 0]
        return Combined(weighted_mean([block for block, _ in chosen], [weight for _, weight in chosen]))


class MultiKrum(Krum):
    """The mean of the updates with the smallest scores."""

    Parameters = MultiKrumParameters
    parameters: MultiKrumParameters

    def winners(self, scores: Array, tolerated: int) -> Sequence[int]:
        import numpy as np

        most = len(scores) - tolerated
        wanted = most if self.parameters.selected is None else min(self.parameters.selected, most)
        return [int(at) for at in np.argsort(scores, kind="stable")[:wanted]]


def krum_scores(distances: Array, byzantine: int) -> Array:
    """Return the score of each update from the squared distances of all pairs."""
    import numpy as np

    number = len(distances)
    neighbours = max(number - byzantine - 2, 1)
    others = distances[~np.eye(number, dtype=bool)].reshape(number, number - 1) if number > 1 else np.zeros((1, 1))
    scores: Array = np.sort(others, axis=1)[:, :neighbours].sum(axis=1)
    return scores
