"""Handwritten digits with NumPy alone: an ordinary training script with three lines for training in a job.

    python examples/numpy_digits.py          # outside a job: ten passes over scikit-learn's digits

In a job the worker's data set is an npz file with ``x`` (samples × 64, float32) and ``y`` (samples, int64).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

HIDDEN, BATCH, RATE = 256, 8, 0.05
PASSES = 100
"""Passes over the data in each round: more local training needs fewer rounds and less traffic."""

Samples = tuple[np.ndarray, np.ndarray]


def load(path: Path | None) -> tuple[Samples, Samples]:
    """Return the training samples and the test samples; in a job both are the worker's whole data set."""
    if path is not None:
        with np.load(path) as file:
            data = file["x"], file["y"]
        return data, data
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)

rng = np.random.default_rng(0)
weights = {
    "w1": rng.normal(0, (2 / 64) ** 0.5, (64, HIDDEN)).astype(np.float32),
    "b1": np.zeros(HIDDEN, np.float32),
    "w2": rng.normal(0, (2 / HIDDEN) ** 0.5, (HIDDEN, 10)).astype(np.float32),
    "b2": np.zeros(10, np.float32),
}


def step(x: np.ndarray, y: np.ndarray) -> None:
    """Take one step of gradient descent on the cross-entropy of a two-layer network."""
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    scores = hidden @ weights["w2"] + weights["b2"]
    error = np.exp(scores - scores.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    error /= len(y)
    back = (error @ weights["w2"].T) * (hidden > 0)
    for name, gradient in (("w2", hidden.T @ error), ("b2", error.sum(0)), ("w1", x.T @ back), ("b1", back.sum(0))):
        weights[name] -= RATE * gradient


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    x, y = test
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    return float(((hidden @ weights["w2"] + weights["b2"]).argmax(1) == y).mean())


for _ in FederatedLearning(weights, num_samples=len(train[0]), evaluate=accuracy).rounds(local=10):  # 3 of 3
    for _pass in range(PASSES):
        order = rng.permutation(len(train[0]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            step(train[0][chosen], train[1][chosen])
    print(f"accuracy {accuracy():.3f}")
