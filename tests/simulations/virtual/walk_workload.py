"""A workload whose model takes a step in each round, and is the best in the round whose number is ``top``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import Scalar
from heliograph.simulations.virtual.workload import Computed

TOP = "top"


@dataclass(frozen=True)
class Walk:
    """Weights that go from 0 up by about one a round, by an edge's own step.

    Attributes:
        top: the round whose model has the best accuracy.
        seconds, evaluation_seconds: duration of a training and of an evaluation.
        size: elements of the model.
    """

    top: int = 5
    seconds: float = 1.0
    evaluation_seconds: float = 0.1
    size: int = 64

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        return Computed({"w": np.zeros(self.size, np.float32)}, 1, seconds=self.seconds)

    def train(self, edge: str, round: int, weights: Any, parameters: Mapping[str, Scalar]) -> Computed:
        number = int(edge.rpartition("-")[2])
        w = weights["w"] + np.float32(1 + number / 100) + np.sin(np.arange(self.size, dtype=np.float32) * number) / 10
        loss = float(abs(w.mean() - self.top)) + number / 10
        return Computed({"w": w.astype(np.float32)}, number, {"loss": loss}, seconds=self.seconds)

    def evaluate(self, weights: Any, parameters: Mapping[str, Scalar]) -> Computed:
        accuracy = 1 / (1 + abs(round(float(weights["w"].mean()) / 1.02) - self.top))
        return Computed({}, 10, {"accuracy": accuracy}, seconds=self.evaluation_seconds)
