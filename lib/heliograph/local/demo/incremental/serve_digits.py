"""The script of the demo's edges: a model that takes weights with any number of classes, and answers devices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heliograph import JointInference
from heliograph.local.demo.incremental.network import Array, new_weights, probabilities


class Digits:
    """The network, with the weights that the service brings."""

    def __init__(self) -> None:
        self.weights = new_weights(5, np.random.default_rng(0))

    def get(self) -> dict[str, Array]:
        return dict(self.weights)

    def set(self, arrays: Mapping[str, Array]) -> None:
        self.weights = {name: np.array(array) for name, array in arrays.items()}

    def __call__(self, batch: Array) -> Array:
        return probabilities(self.weights, np.asarray(batch, np.float32))


JointInference("digits", edge=Digits(), example=np.zeros(64, np.float32)).serve()
