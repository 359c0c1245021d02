"""Serve a model of the pair: ``serve.py edge`` the shallow one, ``serve.py cloud`` the deep one."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from network import Array, Weights, deep, scores, shallow

from heliograph import BigModel, JointInference


class Network:
    """A model whose weights are those of the registered version, as soon as there is one."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def get(self) -> Weights:
        return {name: array.copy() for name, array in self.weights.items()}

    def set(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            self.weights[name][:] = array

    def __call__(self, images: Array) -> Array:
        return scores(self.weights, images)


if sys.argv[1] == "edge":
    JointInference("digits", edge=Network(shallow()), outputs="logits").serve()
else:
    BigModel("digits", Network(deep()), outputs="logits").serve()
