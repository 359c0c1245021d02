"""McNemar's test of two models on the same samples (McNemar 1947, https://doi.org/10.1007/BF02295996).

Only samples that exactly one of the two gets right say anything. Under the hypothesis that both are equally good, the
number that the challenger alone gets right is binomial with one half.
"""

from __future__ import annotations

import math
from typing import NamedTuple

EXACT = 10_000
"""Discordant samples up to which the p-value is exact; beyond, the normal approximation differs by less than 1e-3 of
it, for p-values that decide anything."""


class McNemar(NamedTuple):
    """The result of the test.

    Attributes:
        gained: samples that the challenger alone gets right.
        lost: samples that the champion alone gets right.
        p_better: probability of at least ``gained`` where both are equally good: small means that the challenger is
            better (one-sided).
        p_worse: probability of at most ``gained``: small means that it is worse.
    """

    gained: int
    lost: int
    p_better: float
    p_worse: float


def mcnemar(gained: int, lost: int) -> McNemar:
    """Return the test of these discordant samples. Raise ValueError for negative numbers."""
    if gained < 0 or lost < 0:
        raise ValueError(f"expected numbers of samples, got {gained} and {lost}")
    number = gained + lost
    return McNemar(gained, lost, _at_least(gained, number), _at_least(lost, number))


def _at_least(count: int, number: int) -> float:
    """Return the probability of at least ``count`` heads in ``number`` throws of a fair coin."""
    if count <= 0:
        return 1.0
    if 2 * count <= number:  # sum the shorter tail: no difference of nearly equal numbers
        return 1.0 - _at_least(number - count + 1, number)
    if number > EXACT:
        return 0.5 * math.erfc((count - 0.5 - number / 2) / math.sqrt(number / 2))
    log_term = math.lgamma(number + 1) - math.lgamma(count + 1) - math.lgamma(number - count + 1) - number * math.log(2)
    term, total = math.exp(log_term), 0.0
    for each in range(count, number + 1):
        if total > 0 and term < total * 1e-17:
            break
        total += term
        term *= (number - each) / (each + 1)
    return min(1.0, total)
