"""A two-layer network for digits in NumPy, which the training script, the edge's script and the demo share."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PIXELS, HIDDEN, BATCH, PASSES = 64, 128, 8, 30
RATE = 0.05


def new_weights(classes: int, rng: np.random.Generator) -> dict[str, Array]:
    """Return random weights of a network that tells so many classes apart."""
    return {
        "w1": rng.normal(0, (2 / PIXELS) ** 0.5, (PIXELS, HIDDEN)).astype(np.float32),
        "b1": np.zeros(HIDDEN, np.float32),
        "w2": rng.normal(0, (2 / HIDDEN) ** 0.5, (HIDDEN, classes)).astype(np.float32),
        "b2": np.zeros(classes, np.float32),
    }


def scores(weights: dict[str, Array], x: Array) -> Array:
    """Return the scores (n, classes) of samples (n, 64)."""
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    result: Array = hidden @ weights["w2"] + weights["b2"]
    return result


def probabilities(weights: dict[str, Array], x: Array) -> Array:
    """Return the softmax of the scores."""
    found = scores(weights, x)
    found = np.exp(found - found.max(1, keepdims=True))
    result: Array = found / found.sum(1, keepdims=True)
    return result


def train(weights: dict[str, Array], x: Array, y: Array, rng: np.random.Generator, rate: float = RATE) -> None:
    """Train in place by stochastic gradient descent on the cross-entropy."""
    for _ in range(PASSES):
        order = rng.permutation(len(x))
        for start in range(0, len(order), BATCH):
            _step(weights, x[order[start : start + BATCH]], y[order[start : start + BATCH]], rate)


def _step(weights: dict[str, Array], x: Array, y: Array, rate: float) -> None:
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    error = probabilities(weights, x)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    back = (error @ weights["w2"].T) * (hidden > 0)
    gradients = {"w2": hidden.T @ error, "b2": error.sum(0), "w1": x.T @ back, "b1": back.sum(0)}
    for name, gradient in gradients.items():
        weights[name] -= np.float32(rate) * np.clip(gradient, -1e3, 1e3)
