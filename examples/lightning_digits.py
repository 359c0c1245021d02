"""Handwritten digits with PyTorch Lightning: a new Trainer in each round.

    pip install pytorch-lightning
    python examples/lightning_digits.py      # outside a job: ten rounds on scikit-learn's digits

A Trainer counts its epochs over all its fits: one that is made before the loop with ``max_epochs=1`` trains in the
first round and does nothing in the others, and the job warns that the updates equal their base. Make it in the loop.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


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


class Digits(pl.LightningModule):
    """A network of one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.layers(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.2)


train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)
pl.seed_everything(0, verbose=False)
model = Digits()
batches = DataLoader(train, batch_size=32, shuffle=True)


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    x, y = test.tensors
    with torch.no_grad():
        return (model.layers(x).argmax(1) == y).float().mean().item()


for _ in FederatedLearning(model, num_samples=len(train), evaluate=accuracy).rounds(local=10):  # line 3 of 3
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, batches)
    print(f"accuracy {accuracy():.3f}")
