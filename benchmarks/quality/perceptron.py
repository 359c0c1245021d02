"""A perceptron of 784, 400, 400 and as many units as classes, trained with Adam, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
HIDDEN = 400


class Perceptron:
    """Weights as a dict of arrays, which incremental learning writes and whose head it grows."""

    def __init__(self, inputs: int, classes: int, seed: int = 0, rate: float = 1e-3) -> None:
        rng = np.random.default_rng(seed)
        sizes = (inputs, HIDDEN, HIDDEN, classes)
        self.weights: dict[str, Array] = {}
        for layer, (above, below) in enumerate(pairwise(sizes), 1):
            bound = above**-0.5
            self.weights[f"w{layer}"] = rng.uniform(-bound, bound, (above, below)).astype(np.float32)
            self.weights[f"b{layer}"] = rng.uniform(-bound, bound, below).astype(np.float32)
        self._rate = rate
        self._moments: dict[str, tuple[Array, Array, Array]] = {}
        """Mean and mean square of each array's gradients, and room to compute in."""
        self._step = 0

    def features(self, x: Array) -> Array:
        """Return what the head gets: (n, 400)."""
        w = self.weights
        hidden = np.maximum(x @ w["w1"] + w["b1"], 0)
        return np.asarray(np.maximum(hidden @ w["w2"] + w["b2"], 0))

    def scores(self, x: Array) -> Array:
        """Return logits (n, classes)."""
        return self.features(x) @ self.weights["w3"] + self.weights["b3"]

    def begin(self) -> None:
        """Forget the moments of earlier rounds, as a new optimizer does."""
        self._moments, self._step = {}, 0

    def step(self, x: Array, y: Array, more: Callable[[Array, Array], Array] | None = None) -> None:
        """Take one step of Adam on the cross-entropy of a batch.

        Args:
            more: gives a further gradient on the logits, from ``x`` and the logits.
        """
        w = self.weights
        first = np.maximum(x @ w["w1"] + w["b1"], 0)
        second = np.maximum(first @ w["w2"] + w["b2"], 0)
        logits = second @ w["w3"] + w["b3"]
        error = np.exp(logits - logits.max(1, keepdims=True))
        error /= error.sum(1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        if more is not None:
            error += more(x, logits)
        of_second = (error @ w["w3"].T) * (second > 0)
        of_first = (of_second @ w["w2"].T) * (first > 0)
        self._step += 1
        for layer, above, below in ((3, second, error), (2, first, of_second), (1, x, of_first)):
            self._adam(f"w{layer}", above.T @ below)
            self._adam(f"b{layer}", below.sum(0))

    def _adam(self, name: str, gradient: Array) -> None:
        if name not in self._moments:
            self._moments[name] = np.zeros_like(gradient), np.zeros_like(gradient), np.empty_like(gradient)
        mean, square, room = self._moments[name]
        mean *= 0.9
        mean += np.multiply(gradient, 0.1, out=room)
        gradient *= gradient
        square *= 0.999
        square += np.multiply(gradient, 0.001, out=room)
        np.sqrt(square, out=room)
        room += 1e-8
        np.divide(mean, room, out=room)
        room *= self._rate * (1 - 0.999**self._step) ** 0.5 / (1 - 0.9**self._step)
        self.weights[name] -= room
