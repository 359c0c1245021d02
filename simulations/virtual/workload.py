"""What the workers of a simulated cluster compute: the same in virtual time and in real processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from heliograph.bus.contract.resources.base import Scalar

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


@dataclass(frozen=True)
class Computed:
    """What one piece of work gave.

    Attributes:
        arrays: the new weights; empty after an evaluation.
        seconds: what it takes on a machine of speed 1.
    """

    arrays: Arrays
    num_samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Workload(Protocol):
    """A job's computing, deterministic: the same arguments give the same bits."""

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        """A model's first weights."""
        ...

    def train(self, edge: str, round: int, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        """Local training on the edge's own part of the data."""
        ...

    def evaluate(self, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        """A global model on held-out data: ``accuracy`` and ``loss`` among the metrics."""
        ...
