"""Energy: a sample is hard if its logits are low altogether, which softmax would hide.

Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020, https://arxiv.org/abs/2010.03759
"""

from __future__ import annotations

from math import exp, inf, log
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, as_list


def energy(
    scores: Scores,
    *,
    value: Annotated[float, Field(description="A sample is hard below this negative free energy.")] = 5.0,
    temperature: Annotated[float, Field(gt=0, le=1000, description="The paper's T; it divides the logits.")] = 1.0,
) -> bool:
    """Return whether the negative free energy of the logits, T · log Σ exp(logit / T), is below ``value``.

    No value fits every model: tune it. Unreadable scores (see ``as_list``) and an empty list are hard at every value.
    With one class the negative energy is its logit. Probabilities read as logits lie between log n and 1 + log n: with
    fewer than 50 classes all samples are hard at the default.
    """
    return negative_energy(scores, temperature=temperature) < value


def negative_energy(scores: Scores, *, temperature: float = 1.0) -> float:
    """Return T · log Σ exp(logit / T); minus infinity for no or unreadable scores."""
    found = as_list(scores)
    if not found:
        return -inf
    most = max(found)
    return most + temperature * log(sum(exp((each - most) / temperature) for each in found))
