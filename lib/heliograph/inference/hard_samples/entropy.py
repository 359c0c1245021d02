"""Entropy: a sample is hard if its probabilities are spread over many classes.

The measure is the entropy of the probabilities over that of equal ones, 0 to 1: Shannon, "A Mathematical Theory of
Communication", 1948. Sedna's CrossEntropy rule with a threshold t equals this rule with the limit 1 - t,
https://github.com/kubeedge/sedna/blob/main/lib/sedna/algorithms/hard_example_mining/hard_example_mining.py
"""

from __future__ import annotations

from math import inf, log
from operator import mul
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, as_list


def entropy(
    scores: Scores,
    *,
    limit: Annotated[
        float, Field(ge=0, le=1, description="A sample is hard above this share of the greatest entropy.")
    ] = 0.3,
) -> bool:
    """Return whether the entropy of the probabilities, as a share of the greatest possible, is above ``limit``.

    Unreadable scores (see ``as_list``), an empty list, negative scores and zeros alone are hard at every limit. A
    single zero adds nothing. One class has no entropy and is not hard. Scores are scaled to the sum 1.
    """
    return spread(scores) > limit


def spread(scores: Scores) -> float:
    """Return the entropy of the probabilities over the logarithm of their number, 0 to 1; infinity if undefined."""
    return spread_of(as_list(scores))


def spread_of(found: list[float] | None) -> float:
    """Return the ``spread`` of scores read by ``as_list``."""
    if not found or (least := min(found)) < 0 or not (total := sum(found)):
        return inf
    if len(found) == 1:
        return 0.0
    if not 1e-3 < total < 1e3:  # the sum below would overflow or vanish
        found = [each / total for each in found]
        least, total = min(found), 1.0
    shares = found if least else [each for each in found if each]
    nats: float = log(total) - sum(map(mul, shares, map(log, shares))) / total
    return min(1.0, max(0.0, nats / log(len(found))))  # rounding would put equal probabilities a little above 1
