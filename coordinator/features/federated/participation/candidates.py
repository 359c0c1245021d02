"""The edges among which a strategy selects, and draws of them by weight. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heliograph.bus.contract.payloads import NodeState
from heliograph.coordinator.features.federated.participation.memory import EdgeMemory
from heliograph.core.world import Random


@dataclass(frozen=True)
class Candidate:
    """An edge that can work.

    Attributes:
        num_samples: samples of its data set; 0 where nobody knows.
        memory: what the rounds have told of it.
        node: what its node has free now; None where it does not report that.
    """

    name: str
    num_samples: int = 0
    memory: EdgeMemory = field(default_factory=EdgeMemory)
    node: NodeState | None = None


@dataclass(frozen=True)
class Choice:
    """The edges that a strategy has chosen; ``lacking`` says what it would need to choose better."""

    edges: list[str]
    lacking: str = ""


def weighted_sample(names: Sequence[str], weights: Mapping[str, float], number: int, random: Random) -> list[str]:
    """Draw ``number`` names without replacement, one after the other by their weights among those that are left.

    Names without a weight come last. Efraimidis and Spirakis, 2006 (https://doi.org/10.1016/j.ipl.2005.11.003): the
    smallest of exponentially distributed keys.
    """
    keys = {name: -math.log(1.0 - random.random()) for name in sorted(names)}
    ordered = sorted(keys, key=lambda name: (_key(keys[name], weights.get(name, 0.0)), keys[name], name))
    return ordered[:number]


def _key(exponential: float, weight: float) -> float:
    return exponential / weight if weight > 0 else math.inf
