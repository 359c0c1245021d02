"""Handwritten digits with scikit-learn: an ordinary training script with three lines for training in a job.

    python examples/sklearn_digits.py        # outside a job: ten passes over scikit-learn's digits

In a job the worker's data set is an npz file with ``x`` (samples × 64, float32) and ``y`` (samples, int64).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

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

model = MLPClassifier((64,), solver="sgd", learning_rate_init=0.1, batch_size=min(32, len(train[0])), random_state=0)
# the first call creates the weights; classes= names all classes of the job, even those absent from these samples
model.partial_fit(train[0][:32], train[1][:32], classes=np.arange(10))


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    return model.score(*test)


for _ in FederatedLearning(model, num_samples=len(train[0]), evaluate=accuracy).rounds(local=10):  # 3 of 3
    model.partial_fit(*train)
    print(f"loss {model.loss_:.3f}, accuracy {accuracy():.3f}")
