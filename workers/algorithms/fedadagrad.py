"""FedAdagrad: an adaptive server whose second moment grows.

    v ← v + Δ²        the rest as in ``adaptive``; β₁ = 0, as in the paper's experiments, unless the job says otherwise

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, https://arxiv.org/abs/2003.00295
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from heliograph.workers.algorithms.adaptive import Adaptive, AdaptiveParameters

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class FedAdagradParameters(AdaptiveParameters):
    """FedAdagrad's parameters."""

    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.0


class FedAdagrad(Adaptive):
    """The sum of the squared mean changes scales the steps."""

    Parameters = FedAdagradParameters

    def second_moment(self, before: Array, squares: Array) -> Array:
        return before + squares
