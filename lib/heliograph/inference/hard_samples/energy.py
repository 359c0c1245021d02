"""Energy: hard where the logits are low altogether, which softmax would hide.

Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020, https://arxiv.org/abs/2010.03759
"""

from __future__ import annotations

from math import exp, inf, log
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, listed


def energy(
    scores: Scores,
    *,
    value: Annotated[float, Field(description="Below this negative free energy a sample is hard.")] = 5.0,
    temperature: Annotated[float, Field(gt=0, le=1000, description="The paper's T, that divides the logits.")] = 1.0,
) -> bool:
    """Whether the negative free energy of the logits, T · log Σ exp(logit / T), is below ``value``.

    No value fits every model: tune it. Choices: no scores at all, NaN, infinity or what is no list of numbers is hard,
    whatever the value. With one class the negative energy is its logit. Probabilities taken for logits lie between
    log n and 1 + log n: with fewer than 50 classes all of them are hard at the default.
    """
    return negative_energy(scores, temperature=temperature) < value


def negative_energy(scores: Scores, *, temperature: float = 1.0) -> float:
    """T · log Σ exp(logit / T); minus infinity where there are none to read."""
    found = listed(scores)
    if not found:
        return -inf
    most = max(found)
    return most + temperature * log(sum(exp((each - most) / temperature) for each in found))
