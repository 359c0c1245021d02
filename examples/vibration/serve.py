"""Serve the bearing's models: ``serve.py edge`` the one that the edges trained together, ``serve.py cloud`` a larger
one, which knows many simulated presses."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
from machine import STATES, Press
from network import HIDDEN, Array, Weights, learn, network, scores

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

    def __call__(self, windows: Array) -> Array:
        return scores(self.weights, windows)


def twin(presses: int = 12, windows: int = 30) -> Network:
    """Return a network that has learned from simulated presses."""
    x, y = [], []
    for number in range(presses):
        press = Press(1000 + number)
        for label, state in enumerate(STATES):
            x += [press.measure(state) for _ in range(windows)]
            y += [label] * windows
    weights = network(64)
    learn(weights, np.asarray(x, np.float32), np.asarray(y), 20, np.random.default_rng(0))
    return Network(weights)


if sys.argv[1] == "edge":
    JointInference("bearing", edge=Network(network(HIDDEN)), outputs="logits", classes=STATES).serve()
else:
    BigModel("bearing", twin(), outputs="logits", classes=STATES).serve()
