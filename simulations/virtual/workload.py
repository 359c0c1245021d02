"""The computing of a simulated cluster's workers, the same in virtual time and on real processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from heliograph.bus.contract.resources.base import Scalar

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


@dataclass(frozen=True)
class Computed:
    """The result of one piece of work.

    Attributes:
        arrays: new weights; empty after an evaluation.
        seconds: duration at speed 1.
    """

    arrays: Arrays
    num_samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Workload(Protocol):
    """A job's computing. It is deterministic: equal arguments give equal bits."""

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        """Return a model's initial weights."""
        ...

    def train(self, edge: str, round: int, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        """Train on the edge's own part of the data."""
        ...

    def evaluate(self, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        """Evaluate a global model on held-out data; the metrics include ``accuracy`` and ``loss``."""
        ...
