"""Threshold: hard where the highest probability is too low.

The maximum softmax probability as confidence: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and
Out-of-Distribution Examples in Neural Networks", ICLR 2017, https://arxiv.org/abs/1610.02136
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, listed


def threshold(
    scores: Scores,
    *,
    value: Annotated[float, Field(ge=0, le=1, description="Below this highest probability a sample is hard.")] = 0.9,
) -> bool:
    """Whether the highest of the probabilities is below ``value``.

    Choices: no scores at all, NaN, infinity or what is no list of numbers is hard, whatever the value: who cannot say
    how sure it is asks. One class is compared as it is, so a binary model gives both its probabilities and not one.
    All zero is hard at every value above 0. Probabilities need not sum to 1.
    """
    return best(scores) < value


def best(scores: Scores) -> float:
    """The highest probability; minus infinity where there is none to read."""
    found = listed(scores)
    return max(found) if found else -inf
