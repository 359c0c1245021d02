"""Handwritten digits with NumPy alone: a training script that learns on in an incremental learning job.

    python examples/incremental_numpy.py     # outside a job: trains once, on scikit-learn's digits

In a job the loop goes on: each round has newly labelled samples, with exemplars of earlier ones. The worker's data
set, if it has one, is an npz file with ``x`` (samples × 64, float32) and ``y`` (samples, int64); the first model learns
it.
"""

from __future__ import annotations

import numpy as np

from heliograph import IncrementalLearning, dataset  # Heliograph, line 1 of 3

HIDDEN, BATCH, RATE, PASSES = 128, 8, 0.05, 30


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return the samples of the worker's data set; outside a job scikit-learn's digits."""
    if (path := dataset()) is not None:
        with np.load(path) as file:
            return file["x"], file["y"]
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


x, y = load()
x, y, test_x, test_y = x[:-200], y[:-200], x[-200:], y[-200:]
rng = np.random.default_rng(0)
weights = {
    "w1": rng.normal(0, (2 / 64) ** 0.5, (64, HIDDEN)).astype(np.float32),
    "b1": np.zeros(HIDDEN, np.float32),
    "w2": rng.normal(0, (2 / HIDDEN) ** 0.5, (HIDDEN, 10)).astype(np.float32),
    "b2": np.zeros(10, np.float32),
}


def scores(x: np.ndarray) -> np.ndarray:
    """Return a row of scores for each sample."""
    return np.maximum(x @ weights["w1"] + weights["b1"], 0) @ weights["w2"] + weights["b2"]


def step(x: np.ndarray, y: np.ndarray) -> None:
    """Take one step of gradient descent on the cross-entropy of a two-layer network."""
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    error = hidden @ weights["w2"] + weights["b2"]
    error = np.exp(error - error.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    back = (error @ weights["w2"].T) * (hidden > 0)
    for name, gradient in (("w2", hidden.T @ error), ("b2", error.sum(0)), ("w1", x.T @ back), ("b1", back.sum(0))):
        weights[name] -= RATE * gradient


def train(x: np.ndarray, y: np.ndarray) -> None:
    for _ in range(PASSES):
        order = rng.permutation(len(x))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            step(x[chosen], y[chosen])


il = IncrementalLearning(weights, predict=scores)  # line 2 of 3
for this in il.rounds(x, y):  # line 3 of 3
    train(this.x, this.y)  # was: train(x, y)
    print(f"round {this.number}: accuracy {(scores(test_x).argmax(1) == test_y).mean():.3f}")
