"""FedAdam: an adaptive server with Adam's second moment.

    v ← β₂v + (1 - β₂)Δ²        the rest as in ``adaptive``

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, https://arxiv.org/abs/2003.00295
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliograph.workers.algorithms.adaptive import WithSecondMoment

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class FedAdam(WithSecondMoment):
    """The decaying mean of the squared mean changes scales the steps."""

    def second_moment(self, before: Array, squares: Array) -> Array:
        number = before.dtype.type
        v: Array = number(self.parameters.beta_2) * before + number(1 - self.parameters.beta_2) * squares
        return v
