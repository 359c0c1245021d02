"""What the edges of a run compute: the training of the chaos run, which can be done again and gives the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from heliograph.bus.contract.resources.base import Scalar
from heliograph.simulations.faults.deterministic_training import Array, initial, trained
from heliograph.simulations.virtual.workload import Computed

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays

SECONDS = 0.5
"""What a round's training takes on an edge of speed 1."""


class Computing:
    """A ``Workload`` over each edge's samples."""

    def __init__(self, samples: Mapping[str, Array]) -> None:
        self._samples = samples

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        return Computed(initial(int(str(parameters["size"]))), len(self._samples[edge]), {}, SECONDS)

    def train(self, edge: str, round: int, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        x = self._samples[edge]
        return Computed(trained(weights, x, round), len(x), {"round": float(round)}, SECONDS)

    def evaluate(self, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        return Computed({}, 1, {})
