"""FedProx: a proximal term keeps the local training near the global model.

    ∇h(w) = ∇F(w) + μ(w - w_t)

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, https://arxiv.org/abs/1812.06127
"""

from __future__ import annotations

from heliograph.local_terms.base import Arrays, Correction, LocalTerm


class FedProxTerm(LocalTerm):
    """The proximal term; its parameter is ``mu``."""

    def correction(self, received: Arrays, down: Arrays, state: Arrays) -> Correction:
        return Correction(pull=self.number("mu", 0.01), anchor=received)
