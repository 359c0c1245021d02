"""Handwritten digits with scikit-learn: an ordinary training script, and the three lines that let it train in a job.

    python examples/sklearn_digits.py        # on its own: ten passes over scikit-learn's digits

In a job the worker's data set is an npz file with ``x`` (samples × 64, float32) and ``y`` (samples, int64).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

Samples = tuple[np.ndarray, np.ndarray]


def load(path: Path | None) -> tuple[Samples, Samples]:
    """Return the samples to train on, and those to measure on: both are all of a worker's data set in a job."""
    if path is not None:
        with np.load(path) as file:
            data = file["x"], file["y"]
        return data, data
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)

model = MLPClassifier((64,), solver="sgd", learning_rate_init=0.1, batch_size=min(32, len(train[0])), random_state=0)
# the first call makes the weights; classes= are all of the job's, whichever of them this participant has
model.partial_fit(train[0][:32], train[1][:32], classes=np.arange(10))


def accuracy() -> float:
    """The share of test samples classified correctly."""
    return model.score(*test)


for _ in FederatedLearning(model, num_samples=len(train[0]), evaluate=accuracy).rounds(local=10):  # 3 of 3
    model.partial_fit(*train)
    print(f"loss {model.loss_:.3f}, accuracy {accuracy():.3f}")
