"""A workload that costs next to nothing, for measuring the system itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from zlib import crc32

from heliograph.bus.contract.resources.base import Scalar
from heliograph.simulations.virtual.workload import Computed

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


SPREAD = 3.0
"""Seconds over which a round's updates are spread; a thousand machines never finish at the same moment."""


class Echo:
    """A workload that adds one to each of ``elements`` float32 weights."""

    def __init__(self, elements: int) -> None:
        self._elements = elements

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        import numpy as np

        return Computed({"w": np.zeros(self._elements, np.float32)}, 1)

    def train(self, edge: str, round: int, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        import numpy as np

        return Computed({"w": weights["w"] + np.float32(1)}, 10, seconds=crc32(edge.encode()) % 1000 / 1000 * SPREAD)

    def evaluate(self, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        return Computed({}, 1, {"accuracy": 0.0, "loss": 0.0})
