"""A network of two layers in NumPy, and digits, for the tests of incremental learning."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
HIDDEN = 32


@cache
def digits() -> tuple[Array, Array]:
    """Return 600 of scikit-learn's digits: (600, 64) float32 from 0 to 1, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x[:600] / 16).astype(np.float32), y[:600].astype(np.int64)


class Network:
    """Weights as a dict of arrays, and functions that read them through it."""

    def __init__(self, classes: int = 2, inputs: int = 64, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.weights = {
            "w1": rng.normal(0, (2 / inputs) ** 0.5, (inputs, HIDDEN)).astype(np.float32),
            "b1": np.zeros(HIDDEN, np.float32),
            "w2": rng.normal(0, 0.2, (HIDDEN, classes)).astype(np.float32),
            "b2": np.zeros(classes, np.float32),
        }

    def features(self, x: Array) -> Array:
        return np.maximum(x @ self.weights["w1"] + self.weights["b1"], 0)

    def scores(self, x: Array) -> Array:
        return self.features(x) @ self.weights["w2"] + self.weights["b2"]

    def gradients(self, x: Array, y: Array) -> dict[str, Array]:
        hidden = self.features(x)
        return self.back(x, hidden, self.error(hidden @ self.weights["w2"] + self.weights["b2"], y))

    def error(self, scores: Array, y: Array) -> Array:
        """Return the gradient of the mean cross-entropy on the scores."""
        found = np.exp(scores - scores.max(1, keepdims=True))
        found /= found.sum(1, keepdims=True)
        found[np.arange(len(y)), y] -= 1
        return found / len(y)

    def back(self, x: Array, hidden: Array, error: Array) -> dict[str, Array]:
        below = (error @ self.weights["w2"].T) * (hidden > 0)
        return {"w1": x.T @ below, "b1": below.sum(0), "w2": hidden.T @ error, "b2": error.sum(0)}

    def train(self, this: Any, steps: int = 150, rate: float = 0.1) -> None:
        """Take steps of gradient descent on a round's batches, with what its strategies add."""
        for x, y in this.batches(64, steps=steps):
            hidden = self.features(x)
            scores = hidden @ self.weights["w2"] + self.weights["b2"]
            error = self.error(scores, y) + this.score_gradients(x, scores)
            more = this.weight_gradients()
            for name, gradient in self.back(x, hidden, error).items():
                self.weights[name] -= rate * (gradient + more[name])
