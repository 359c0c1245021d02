"""Handwritten digits with PyTorch: an ordinary training script with three lines for training in a job.

    python examples/torch_digits.py          # outside a job: ten epochs on scikit-learn's digits

In a job the worker's data set is an npz file with ``x`` (samples × 64, float32) and ``y`` (samples, int64).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

PASSES = 5
"""Passes over the data in each round: more local training needs fewer rounds and less traffic."""


def load(path: Path | None) -> tuple[TensorDataset, TensorDataset]:
    """Return the training samples and the test samples; in a job both are the worker's whole data set."""
    if path is not None:
        with np.load(path) as file:
            data = TensorDataset(torch.from_numpy(file["x"]), torch.from_numpy(file["y"]))
        return data, data
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    return TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])


train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)

torch.manual_seed(0)
model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
batches = DataLoader(train, batch_size=min(32, len(train)), shuffle=True, drop_last=True)


def train_epoch() -> float:
    """Make one pass over the data and return the mean loss."""
    model.train()
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    model.eval()
    x, y = test.tensors
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


for _ in FederatedLearning(model, num_samples=len(train), evaluate=accuracy).rounds(local=10):  # line 3 of 3
    for _pass in range(PASSES):
        loss = train_epoch()
    print(f"loss {loss:.3f}, accuracy {accuracy():.3f}")
