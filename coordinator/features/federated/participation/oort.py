"""Oort: edges whose data still teach the model much, and that are quick enough; some new ones in each round.

Lai, Zhu, Madhyastha, Chowdhury, 2021, "Oort: Efficient Federated Learning via Guided Participant Selection"
(https://arxiv.org/abs/2010.06081), algorithm 1. An edge tells the mean loss of all its batches, so that the
statistical utility |B| sqrt(mean of squared losses) becomes num_samples x loss. As in the authors' program it is scaled
to at most 1 before the term for its age is added. The preferred duration is set, or the median; their pacer is left
out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from heliograph.coordinator.features.federated.participation.candidates import Candidate, Choice, weighted_sample
from heliograph.core.world import Random

AGEING = 0.1
Share = Annotated[float, Field(ge=0, le=1)]


class OortParameters(BaseModel):
    """Parameters of Oort.

    Attributes:
        exploration: share of a round's edges that were never counted, in the first round.
        exploration_decay: factor on that share from round to round.
        exploration_min: the share that it does not fall below.
        alpha: how much a slow edge loses; 0 for nothing.
        preferred_seconds: duration of a round beyond which an edge is slow; by default the median of all edges'.
        cutoff: share of the utility of the last edge that would be asked; edges above it are drawn from.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    exploration: Share = 0.9
    exploration_decay: Share = 0.98
    exploration_min: Share = 0.2
    alpha: Annotated[float, Field(ge=0, le=100)] = 2.0
    preferred_seconds: Annotated[float, Field(gt=0, le=1e9)] | None = None
    cutoff: Share = 0.95


def choose(
    candidates: Sequence[Candidate], number: int, round: int, random: Random, parameters: OortParameters
) -> Choice:
    """Return ``number`` of the candidates."""
    explored = {each.name: each for each in candidates if each.memory.counted and each.memory.loss is not None}
    others = sorted(each.name for each in candidates if each.name not in explored)
    new = min(_exploring(number, round, random, parameters), len(others))
    new = max(new, number - len(explored))  # too few are known
    utilities = utilities_of([explored[name] for name in sorted(explored)], round, parameters)
    best = _exploited(utilities, min(number - new, len(explored)), random, parameters.cutoff)
    drawn = random.sample(others, min(new, len(others)))
    silent = sum(1 for each in candidates if each.memory.counted and each.memory.loss is None)
    lacking = f"{silent} edges have told no loss: they are drawn as if they were new" if silent else ""
    return Choice([*best, *drawn], lacking)


def utilities_of(explored: Sequence[Candidate], round: int, parameters: OortParameters) -> dict[str, float]:
    """Return the utility of each edge that was counted before."""
    statistical = {each.name: each.memory.num_samples * max(0.0, each.memory.loss or 0.0) for each in explored}
    most = max(statistical.values(), default=0.0)
    durations = [each.memory.seconds for each in explored if each.memory.seconds is not None]
    preferred = parameters.preferred_seconds or (median(durations) if durations else math.inf)
    found: dict[str, float] = {}
    for each in explored:
        utility = statistical[each.name] / most if most > 0 else 0.0
        utility += math.sqrt(AGEING * math.log(max(1, round)) / each.memory.counted)
        seconds = each.memory.seconds or 0.0
        if seconds > preferred:
            utility *= (preferred / seconds) ** parameters.alpha
        found[each.name] = utility
    return found


def _exploring(number: int, round: int, random: Random, parameters: OortParameters) -> int:
    """Return how many of a round's edges are new ones. A part of one is drawn: with few edges a round, none of the new
    would ever be asked."""
    share = parameters.exploration * parameters.exploration_decay ** (max(1, round) - 1)
    wanted = number * max(share, parameters.exploration_min)
    whole = math.floor(wanted)
    return whole + (random.random() < wanted - whole)


def _exploited(utilities: Mapping[str, float], number: int, random: Random, cutoff: float) -> list[str]:
    """Draw among the edges whose utility is not far below that of the last one that would be asked, by utility."""
    if number <= 0:
        return []
    bound = cutoff * sorted(utilities.values(), reverse=True)[number - 1]
    good = sorted(name for name, utility in utilities.items() if utility >= bound)
    return weighted_sample(good, utilities, number, random)
