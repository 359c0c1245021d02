"""The federated jobs' training script. It is deterministic, so that an update can be computed again from its base, its
data and its round."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph import FederatedLearning, dataset, parameters

Array = np.ndarray[Any, Any]
PAUSE = 0.2
"""Shortest duration of a round in seconds, so that a job lives long enough to meet faults."""
RATE = np.float32(0.1)


def initial_model(size: int) -> dict[str, Array]:
    """Return the model before round 1: ``size`` floats, and an integer counter like a batch norm's."""
    return {"w": np.linspace(-1, 1, size, dtype=np.float32), "steps": np.zeros(1, np.int64)}


def train(base: Mapping[str, Array], x: Array, round: int) -> dict[str, Array]:
    """Train ``base`` for one round on the samples ``x``, with plain sums and products: without BLAS every process gets
    the same bits."""
    goal = np.resize(x.mean(0, dtype=np.float32), base["w"].shape) * np.float32(round)
    return {"w": base["w"] + RATE * (goal - base["w"]), "steps": base["steps"] + len(x)}


def main() -> None:
    file = dataset()
    assert file is not None, "the job gives each worker a data set"
    with np.load(file) as arrays:
        x = arrays["x"]
    model = initial_model(int(str(parameters()["size"])))
    for each in FederatedLearning(model, num_samples=len(x)).rounds():
        time.sleep(PAUSE)
        for name, array in train(model, x, each.number).items():
            model[name][...] = array


if __name__ == "__main__":
    main()
