"""FedBN: FedAvg of all but the layers of batch normalisation, which never leave their edge.

Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR 2021,
https://arxiv.org/abs/2102.07623

What an edge does is in ``local_terms/personal_layers.py``.
"""

from __future__ import annotations

from heliograph.workers.algorithms.fedavg import FedAvg, FedAvgParameters


class FedBNParameters(FedAvgParameters):
    """FedBN's parameters are FedAvg's."""


class FedBN(FedAvg):
    """The weighted mean of the updates."""

    Parameters = FedBNParameters
    keeps_edge_state = True
    local_term = "FedBN"
