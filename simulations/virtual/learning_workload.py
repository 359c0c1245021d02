"""The computing of learning jobs' workers: what they train, measure and serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from heliograph.bus.contract.payloads import LearnTask, PairTask
from heliograph.bus.contract.resources import GateFigures, PairFigures, ShardRef
from heliograph.simulations.virtual.workload import Computed

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays


@dataclass(frozen=True)
class ReadShard:
    """A shard as its worker has read it: the ids of its samples in order, and the index of each one's class."""

    ref: ShardRef
    ids: Sequence[str]
    labels: Sequence[int]


class LearningWorkload(Protocol):
    """The computing of incremental learning jobs, of pair jobs, and of the services of their models."""

    def learn(self, edge: str, task: LearnTask, base: Arrays, shards: Sequence[ReadShard]) -> Computed:
        """Train a candidate. Raise HeliographError where the script fails."""
        ...

    def judge(self, edge: str, task: LearnTask, shards: Sequence[ReadShard]) -> GateFigures:
        """Measure a candidate on held-out samples."""
        ...

    def train_one(self, edge: str, task: PairTask) -> Computed:
        """Train one model of a pair, or select its public samples."""
        ...

    def measure(self, edge: str, task: PairTask) -> PairFigures:
        """Measure a pair."""
        ...

    def next_sample(self, edge: str, service: str) -> Arrays | None:
        """Return the next sample that a service finds hard on an edge; None where it finds no more."""
        ...

    def pause(self, service: str) -> float:
        """Return the seconds between two hard samples."""
        ...

    def stands(self, digest: str) -> bool:
        """Return whether a version answers its requests without errors."""
        ...

    def serves(self, edge: str, service: str, digest: str, candidate: str) -> None:
        """Take note of the version that answers on an edge now, and of the one on trial; empty for none."""
        ...
