"""The training script of Split-MNIST in a job: what ``split_mnist`` does in one process, as a user's script."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.quality.perceptron import Perceptron
from heliograph import IncrementalLearning, parameters
from heliograph.incremental.learning import ICaRL, Replay

BATCH = 128
given = parameters()
strategies: dict[str, Any] = {"none": None, "replay": Replay(1100), "icarl": ICaRL(2000)}
network = Perceptron(784, 2)
il = IncrementalLearning(
    network.weights, predict=network.scores, features=network.features, head=("w3", "b3"),
    strategy=strategies[str(given["strategy"])], before=lambda image: (image / 255).astype(np.float32),
)  # fmt: skip
for this in il.rounds():
    network.begin()
    for batch in this.batches(BATCH, steps=int(str(given["steps"]))):
        network.step(*batch)
