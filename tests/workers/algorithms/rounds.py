"""Rounds of one algorithm through the aggregation's own code, for comparison with sums over whole arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.result_files import Result
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import Algorithm

Arrays = dict[str, Any]
SIZE = 300
FLOATS = ("w", "d")
BUFFER = "mean"


def weights(seed: int, scale: float = 1.0) -> Arrays:
    """Return a model with tensors of several types, one of them a buffer."""
    rng = np.random.default_rng(seed)
    return {
        "w": (scale * rng.normal(size=SIZE)).astype(np.float32),
        "d": scale * rng.normal(size=(2, 5)),
        BUFFER: (scale * rng.normal(size=3)).astype(np.float32),
        "batches": np.array(seed, np.int64),
    }


def moved(base: Arrays, seed: int, scale: float = 0.1) -> Arrays:
    """Return an update: the base plus random changes."""
    change = weights(seed, scale)
    return {name: base[name] + change[name] for name in base}


class Played:
    """Plays one round after the other; each begins from the model and the state of the one before.

    Attributes:
        base: the model after the last round.
        state: file of the state after the last round.
    """

    def __init__(self, algorithm: Algorithm, directory: Path, base: Arrays) -> None:
        self._algorithm = algorithm
        self._directory = directory
        self.base = base
        self.state: Path | None = None
        self._round = 0

    def round(
        self,
        updates: Mapping[str, Arrays],
        samples: Sequence[float] = (),
        metrics: Mapping[str, Mapping[str, float]] | None = None,
        buffers: Sequence[str] = (BUFFER,),
        edges_of_job: int = 0,
        refused: int = 0,
    ) -> Result:
        """Combine the updates. Return the result, and make its model the next base."""
        self._round += 1
        counts = samples or [10.0] * len(updates)
        inputs = {
            edge: Input(dumps(arrays), count, metrics=(metrics or {}).get(edge, {}), buffers=frozenset(buffers))
            for (edge, arrays), count in zip(updates.items(), counts, strict=True)
        }
        result = aggregate(
            inputs, self._algorithm, self._directory, start=RoundStart(dumps(self.base), state=self.state),
            round=self._round, asked=len(updates), edges_of_job=edges_of_job, refused=refused,
        )  # fmt: skip
        if result.model is not None:
            self.base = read(result.model, self._directory)
        if result.state is not None:
            self.state = self._directory / result.state.digest
        return result


def read(ref: WeightsRef | None, directory: Path) -> Arrays:
    """Return the arrays of a result."""
    assert ref is not None
    with TensorFile(ref.inline if ref.inline is not None else directory / ref.digest) as file:
        return {name: array.copy() for name, array in file.arrays().items()}
