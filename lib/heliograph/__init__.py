"""Heliograph trains and serves models on edges and in the cloud together. The public names load lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from heliograph.blocking_client import Client
    from heliograph.client import AsyncClient
    from heliograph.dataset_arrays import arrays
    from heliograph.federated import FederatedLearning, dataset, parameters
    from heliograph.frameworks.loading import load
    from heliograph.incremental.learning import IncrementalLearning
    from heliograph.inference.cloud import BigModel
    from heliograph.inference.edge import JointInference
    from heliograph.inference.pairs.training import PairTraining

__all__ = [
    "AsyncClient",
    "BigModel",
    "Client",
    "FederatedLearning",
    "IncrementalLearning",
    "JointInference",
    "PairTraining",
    "__version__",
    "arrays",
    "dataset",
    "load",
    "parameters",
]

_HOMES = {
    "AsyncClient": "heliograph.client",
    "BigModel": "heliograph.inference.cloud",
    "Client": "heliograph.blocking_client",
    "FederatedLearning": "heliograph.federated",
    "IncrementalLearning": "heliograph.incremental.learning",
    "JointInference": "heliograph.inference.edge",
    "PairTraining": "heliograph.inference.pairs.training",
    "arrays": "heliograph.dataset_arrays",
    "dataset": "heliograph.federated",
    "load": "heliograph.frameworks.loading",
    "parameters": "heliograph.federated",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'heliograph' has no attribute {name!r}")
