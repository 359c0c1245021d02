"""Ditto: each edge trains a model of its own beside the global one, which pulls it.

    v_k ← v_k - η(∇F_k(v_k) + λ(v_k - w_t))

The loop's body runs twice in a round: first it trains the global model, whose update is sent, then the edge's own.

Li, Hu, Beirami, Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021,
https://arxiv.org/abs/2012.04221
"""

from __future__ import annotations

from heliograph.local_terms.base import Arrays, Correction, Kept, LocalTerm, OwnModel, Trained, kind_of

OWN = "own"


class DittoTerm(LocalTerm):
    """The edge's own model; its parameter is ``lambda_``, λ. It begins as the first global model that the edge gets."""

    keeps_state = True
    corrects = False

    def correction(self, received: Arrays, down: Arrays, state: Arrays) -> Correction:
        return Correction()

    def own_model(self, received: Arrays, state: Arrays) -> OwnModel:
        weights = {**received, **kind_of(OWN, state)}
        return OwnModel(weights, Correction(self.number("lambda_", 0.1), received))

    def keep(self, trained: Trained) -> Kept:
        return Kept({f"{OWN}:{name}": array for name, array in (trained.own or {}).items()})
