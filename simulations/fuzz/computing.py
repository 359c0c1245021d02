"""The computing of a run's edges: the chaos run's training, which gives the same bits when it is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from heliograph.bus.contract.resources.base import Scalar
from heliograph.simulations.faults.deterministic_training import Array, initial_model, train
from heliograph.simulations.virtual.workload import Computed

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays

SECONDS = 0.5
"""Duration of a round's training at speed 1, in seconds."""


class Computing:
    """A ``Workload`` over each edge's samples."""

    def __init__(self, samples: Mapping[str, Array]) -> None:
        self._samples = samples

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        return Computed(initial_model(int(str(parameters["size"]))), len(self._samples[edge]), {}, SECONDS)

    def train(self, edge: str, round: int, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        x = self._samples[edge]
        return Computed(train(weights, x, round), len(x), {"round": float(round)}, SECONDS)

    def evaluate(self, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        return Computed({}, 1, {})
