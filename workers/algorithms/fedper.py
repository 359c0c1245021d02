"""FedPer: FedAvg of the common layers; the others never leave their edge (``local_terms/personal_layers.py``).

Arivazhagan et al., "Federated Learning with Personalization Layers", 2019,
https://arxiv.org/abs/1912.00818
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from heliograph.workers.algorithms.fedavg import FedAvg, FedAvgParameters


class FedPerParameters(FedAvgParameters):
    """FedPer's parameters.

    Attributes:
        personal_layers: patterns of the names of weights that stay on the edge, with commas between: ``head.*``.
    """

    personal_layers: Annotated[str, Field(min_length=1, max_length=1024)]


class FedPer(FedAvg):
    """The weighted mean of the updates."""

    Parameters: ClassVar[type[FedAvgParameters]] = FedPerParameters
    keeps_edge_state = True
    local_term = "FedPer"
