"""FedRep: FedAvg of the common layers; each edge trains its own ones first, then the common ones.

Collins et al., "Exploiting Shared Representations for Personalized Federated Learning", ICML 2021,
https://arxiv.org/abs/2102.07078

What an edge does is in ``local_terms/personal_layers.py``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.fedper import FedPer, FedPerParameters


class FedRepParameters(FedPerParameters):
    """FedRep's parameters.

    Attributes:
        head_steps: steps of each round that move the edge's own layers, before the common ones move.
    """

    head_steps: Annotated[int, Field(ge=1)] = 1


class FedRep(FedPer):
    """The weighted mean of the updates."""

    Parameters = FedRepParameters
    keeps_edge_state = True
    local_term = "FedRep"
