"""Threshold: a sample is hard if its highest probability is too low.

The maximum softmax probability as confidence: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and
Out-of-Distribution Examples in Neural Networks", ICLR 2017, https://arxiv.org/abs/1610.02136
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, as_list


def threshold(
    scores: Scores,
    *,
    value: Annotated[float, Field(ge=0, le=1, description="A sample is hard below this highest probability.")] = 0.9,
) -> bool:
    """Return whether the highest probability is below ``value``.

    Unreadable scores (see ``as_list``) and an empty list are hard at every value. A single score is compared as it is,
    so a binary model should give both its probabilities. Zeros alone are hard at every value above 0. Probabilities
    need not sum to 1.
    """
    return best(scores) < value


def best(scores: Scores) -> float:
    """Return the highest probability; minus infinity for no or unreadable scores."""
    found = as_list(scores)
    return max(found) if found else -inf
