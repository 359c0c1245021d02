"""FedYogi: an adaptive server with Yogi's second moment, which changes by the size of the squares alone.

    v ← v - (1 - β₂)Δ² sign(v - Δ²)        the rest as in ``adaptive``

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, https://arxiv.org/abs/2003.00295
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliograph.workers.algorithms.adaptive import WithSecondMoment

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class FedYogi(WithSecondMoment):
    """The second moment grows fast where squares are larger, and shrinks slowly where they are smaller."""

    def second_moment(self, before: Array, squares: Array) -> Array:
        import numpy as np

        v: Array = before - before.dtype.type(1 - self.parameters.beta_2) * squares * np.sign(before - squares)
        return v
