"""FedDyn: a dynamic regulariser makes the optimum of each edge that of all.

    ∇L(w) - g_k + α(w - w_t)        g_k⁺ = g_k - α(w_k - w_t)

Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021, https://arxiv.org/abs/2111.04263
"""

from __future__ import annotations

from heliograph.local_terms.base import Arrays, Correction, Kept, LocalTerm, Trained, kind_of

GRADIENT = "gradient"


class FedDynTerm(LocalTerm):
    """The dynamic regulariser; its parameter is ``alpha``, and ``g_k`` stays on the edge."""

    keeps_state = True

    def correction(self, received: Arrays, down: Arrays, state: Arrays) -> Correction:
        shift = {name: -array for name, array in kind_of(GRADIENT, state).items()}
        return Correction(self._alpha, received, shift)

    def keep(self, trained: Trained) -> Kept:
        before = kind_of(GRADIENT, trained.state)
        after = {
            f"{GRADIENT}:{name}": before.get(name, 0.0) - self._alpha * (trained.trained[name] - trained.received[name])
            for name in sorted(trained.moved)
        }
        return Kept(after)

    @property
    def _alpha(self) -> float:
        return self.number("alpha", 0.01)
