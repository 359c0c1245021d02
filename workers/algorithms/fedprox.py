"""FedProx: FedAvg of participants whose local training has a proximal term (``local_terms/fedprox.py``).

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, https://arxiv.org/abs/1812.06127
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heliograph.workers.algorithms.fedavg import FedAvg, FedAvgParameters


class FedProxParameters(FedAvgParameters):
    """FedProx's parameters.

    Attributes:
        mu: the paper's μ; 0 is FedAvg.
    """

    mu: Annotated[float, Field(ge=0)] = 0.01


class FedProx(FedAvg):
    """The weighted mean of the updates."""

    Parameters = FedProxParameters
    local_term = "FedProx"
