"""Power-of-choice: of a few candidates, drawn by their share of the data, those with the highest loss.

Cho, Wang, Joshi, 2020, "Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice Selection
Strategies" (https://arxiv.org/abs/2010.01243), in the variant that asks nobody twice: the loss is the one that an edge
told last, and infinite where it has never been counted (rpow-d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from heliograph.coordinator.features.federated.participation.candidates import Candidate, Choice, weighted_sample
from heliograph.core.world import Random


class PowerOfChoiceParameters(BaseModel):
    """Parameters of power-of-choice.

    Attributes:
        candidates: number of candidates, of which those with the highest loss are asked; by default twice as many as
            are asked.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    candidates: Annotated[int, Field(ge=1, le=100_000)] | None = None


def choose(
    candidates: Sequence[Candidate], number: int, round: int, random: Random, parameters: PowerOfChoiceParameters
) -> Choice:
    """Return ``number`` of the candidates. Edges of the same loss are drawn."""
    wanted = 2 * number if parameters.candidates is None else max(number, parameters.candidates)
    share = _shares(candidates)
    drawn = weighted_sample([*share], share, wanted, random)
    losses = _losses(candidates)
    ties = {name: random.random() for name in drawn}
    ordered = sorted(drawn, key=lambda name: (-losses[name], ties[name], name))
    silent = sum(1 for each in candidates if each.memory.counted and _loss(each) is None)
    lacking = f"{silent} edges have told neither received_loss nor loss" if silent else ""
    return Choice(ordered[:number], lacking)


def _shares(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the samples of each edge; where nobody knows them, the mean of the others: no edge is never drawn."""
    known = {each.name: float(each.num_samples or each.memory.num_samples) for each in candidates}
    told = [number for number in known.values() if number > 0]
    mean = sum(told) / len(told) if told else 1.0
    return {name: number if number > 0 else mean for name, number in known.items()}


def _losses(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return each edge's loss: infinite where it was never counted, and the mean of the others where it tells none."""
    told = [loss for each in candidates if (loss := _loss(each)) is not None]
    mean = sum(told) / len(told) if told else 0.0
    found: dict[str, float] = {}
    for each in candidates:
        loss = _loss(each)
        found[each.name] = math.inf if not each.memory.counted else mean if loss is None else loss
    return found


def _loss(candidate: Candidate) -> float | None:
    memory = candidate.memory
    return memory.received_loss if memory.received_loss is not None else memory.loss
