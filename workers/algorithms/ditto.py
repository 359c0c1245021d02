"""Ditto: FedAvg of the global model; each edge keeps a model of its own beside it (``local_terms/ditto.py``).

Li, Hu, Beirami, Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021,
https://arxiv.org/abs/2012.04221
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.fedavg import FedAvg, FedAvgParameters


class DittoParameters(FedAvgParameters):
    """Ditto's parameters.

    Attributes:
        lambda_: the paper's λ, how strongly the global model pulls each edge's own.
    """

    lambda_: Annotated[float, Field(ge=0)] = 0.1


class Ditto(FedAvg):
    """The weighted mean of the updates."""

    Parameters = DittoParameters
    keeps_edge_state = True
    local_term = "Ditto"
