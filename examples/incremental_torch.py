"""Handwritten digits with PyTorch: a training script that learns on in an incremental learning job.

    python examples/incremental_torch.py     # outside a job: trains once, on scikit-learn's digits

In a job the loop goes on: each round has newly labelled samples, with exemplars of earlier ones, and a new class makes
the last layer grow. The optimizer is made in the loop's body, because the weights have changed since the last round.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from heliograph import IncrementalLearning, dataset  # Heliograph, line 1 of 3
from heliograph.incremental.learning import LwF, Replay


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
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

il = IncrementalLearning(model, strategy=[Replay(1000), LwF()])  # line 2 of 3
for this in il.rounds(x, y):  # line 3 of 3; was: for _ in range(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(20):
        for inputs, labels in this.batches(32):  # was: for inputs, labels in batches(x, y)
            inputs, labels = torch.from_numpy(inputs), torch.from_numpy(labels)
            optimizer.zero_grad()
            scores = model(inputs)
            loss = nn.functional.cross_entropy(scores, labels) + this.penalty(inputs, scores)  # LwF's part
            loss.backward()
            optimizer.step()
    print(f"round {this.number}: accuracy {(il.predict(test_x) == test_y).mean():.3f}")
