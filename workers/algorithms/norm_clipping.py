"""NormClipping: the mean of the updates' changes, none of them longer than a bound.

    w ← w + mean of Δ_k · min(1, C / ‖Δ_k‖)

Sun, Kairouz, Suresh, McMahan, "Can You Really Backdoor Federated Learning?", 2019, https://arxiv.org/abs/1911.07963
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from heliograph.workers.algorithms.base import Algorithm, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms.differences import moved, squared_norms
from heliograph.workers.algorithms.fedavg import FedAvgParameters
from heliograph.workers.algorithms.robust import uniform

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class NormClippingParameters(FedAvgParameters):
    """NormClipping's parameters.

    Attributes:
        clip_norm: the largest L2 norm of a change, C; by default the median of its round.
        norm_factor: as for every algorithm, but off: a long change is clipped, not refused.
    """

    clip_norm: Annotated[float, Field(gt=0)] | None = None
    norm_factor: Annotated[float, Field(ge=0)] = 0.0


class NormClipping(Algorithm):
    """The mean of clipped changes; updates weigh alike."""

    Parameters = NormClippingParameters
    needs_base = True
    measures = True
    combines_buffers = True
    parameters: NormClippingParameters

    def measure(self, piece: Piece) -> Array:
        return squared_norms(piece)

    def decide(self, facts: RoundFacts) -> Decision:
        import numpy as np

        assert facts.measured is not None
        norms = np.sqrt(facts.measured)
        most = self.parameters.clip_norm if self.parameters.clip_norm is not None else float(np.median(norms))
        number = len(norms)
        factors = [min(1.0, most / float(norm)) / number if norm > 0 else 1 / number for norm in norms]
        return Decision(weights=uniform(number), plan=factors)

    def combine(self, piece: Piece) -> Combined:
        return Combined(moved(piece, piece.plan))
