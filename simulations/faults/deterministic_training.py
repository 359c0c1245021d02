"""The script that the federated jobs train with: deterministic, so that whoever has an update's base, data and round
can make the same update again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph import FederatedLearning, dataset, parameters

Array = np.ndarray[Any, Any]
PAUSE = 0.2
"""Seconds that a round takes at the least, so that a job lives long enough to meet faults."""
RATE = np.float32(0.1)


def initial(size: int) -> dict[str, Array]:
    """The model before round 1: ``size`` floats, and a counter as a batch norm has one."""
    return {"w": np.linspace(-1, 1, size, dtype=np.float32), "steps": np.zeros(1, np.int64)}


def trained(base: Mapping[str, Array], x: Array, round: int) -> dict[str, Array]:
    """What a participant with the samples ``x`` makes of ``base`` in a round. Plain sums and products, no BLAS: the
    same bits in every process."""
    goal = np.resize(x.mean(0, dtype=np.float32), base["w"].shape) * np.float32(round)
    return {"w": base["w"] + RATE * (goal - base["w"]), "steps": base["steps"] + len(x)}


def main() -> None:
    file = dataset()
    assert file is not None, "the job gives each worker a data set"
    with np.load(file) as arrays:
        x = arrays["x"]
    model = initial(int(str(parameters()["size"])))
    for each in FederatedLearning(model, num_samples=len(x)).rounds():
        time.sleep(PAUSE)
        for name, array in trained(model, x, each.number).items():
            model[name][...] = array


if __name__ == "__main__":
    main()
