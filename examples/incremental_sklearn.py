"""Handwritten digits with scikit-learn: a training script that learns on in an incremental learning job.

    python examples/incremental_sklearn.py   # outside a job: trains once, on scikit-learn's digits

In a job the loop goes on: each round has newly labelled samples, with exemplars of earlier ones, and the estimator gets
a further class where one comes, which ``partial_fit`` alone refuses.
"""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier

from heliograph import IncrementalLearning, dataset  # Heliograph, line 1 of 3


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
model = MLPClassifier((64,), learning_rate_init=0.01, random_state=0)

il = IncrementalLearning(model)  # line 2 of 3
for this in il.rounds(x, y):  # line 3 of 3
    for _ in range(20):
        model.partial_fit(this.x, this.y)  # was: model.partial_fit(x, y, classes=range(10))
    print(f"round {this.number}: accuracy {model.score(test_x, test_y):.3f}")
