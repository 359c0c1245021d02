"""Handwritten digits with a scikit-learn pipeline: a scaler, then a classifier.

    python examples/sklearn_pipeline.py      # outside a job: ten passes over scikit-learn's digits

In a job the whole pipeline travels. The scaler is fitted on each edge's own rows; the job combines its statistics to
those of all edges' rows, so that every edge scales alike. Other steps that learn from rows (MinMaxScaler, PCA) are
refused unless they have learned the same at every edge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

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

model = make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", alpha=0.01, random_state=0))
scaler, classifier = model
scaler.fit(train[0])
# model.fit() would begin anew in each round; classes= names all classes of the job, also those absent from these rows
classifier.partial_fit(scaler.transform(train[0][:1]), train[1][:1], classes=np.arange(10))


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    return model.score(*test)


for _ in FederatedLearning(model, num_samples=len(train[0]), evaluate=accuracy).rounds(local=10):  # 3 of 3
    classifier.partial_fit(scaler.transform(train[0]), train[1])
    print(f"accuracy {accuracy():.3f}")
