"""A lower bound of the mean of paired differences, by the percentile bootstrap (Efron 1979,
https://doi.org/10.1214/aos/1176344552).

Each resample draws whole pairs: what one sample adds to both models' scores cancels out.
"""

from __future__ import annotations

import math
import random  # noqa: TID251 only its type: the generator is seeded
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from heliograph.core.world import seeded

RESAMPLES = 2000
FEW_VALUES = 64
"""Different values up to which a resample is drawn value by value: three of right and wrong, some of rated scores."""
MANY = 2000
"""Samples of more values from which on the means of resamples are taken as normal: they are, to within the noise of
``RESAMPLES`` draws."""


class LowerBound(NamedTuple):
    """A mean with the bound above which it lies, with the given confidence."""

    mean: float
    bound: float


def lower_bound(
    differences: Sequence[float], confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> LowerBound:
    """Return the mean of paired differences, challenger minus champion, and its one-sided lower bound.

    The same differences in any order give the same bound. Raise ValueError where there is none, one is not finite, or
    the confidence is not between 0.5 and 1.
    """
    if not differences:
        raise ValueError("expected at least one difference")
    if not all(map(math.isfinite, differences)):
        raise ValueError("expected finite differences")
    if not 0.5 <= confidence < 1:
        raise ValueError(f"expected a confidence from 0.5 to 1, got {confidence}")
    rng = seeded(f"bootstrap/{seed}")
    mean = math.fsum(differences) / len(differences)
    counted = sorted(Counter(differences).items())
    if len(counted) <= FEW_VALUES:
        means = [_mean_of_few(counted, len(differences), rng) for _ in range(resamples)]
    elif len(differences) > MANY:
        spread = math.sqrt(math.fsum((each - mean) ** 2 for each in differences)) / len(differences)
        return LowerBound(mean, mean + NormalDist().inv_cdf(1 - confidence) * spread)
    else:
        ordered = sorted(differences)
        means = [math.fsum(rng.choices(ordered, k=len(ordered))) / len(ordered) for _ in range(resamples)]
    means.sort()
    return LowerBound(mean, means[int((1 - confidence) * resamples)])


def _mean_of_few(counted: Sequence[tuple[float, int]], number: int, rng: random.Random) -> float:
    """Return the mean of one resample, drawn as numbers of each value: a binomial of what is left after the values
    before. It costs the same for a hundred samples and for a million."""
    left, pool, total = number, number, 0.0
    for value, count in counted:
        drawn = left if count == pool else _binomial(left, count / pool, rng)
        total += value * drawn
        left -= drawn
        pool -= count
        if not left:
            break
    return total / number


def _binomial(number: int, share: float, rng: random.Random) -> int:
    """Draw a binomial number: exactly where few are expected, else by the normal approximation."""
    if share > 0.5:
        return number - _binomial(number, 1 - share, rng)
    expected = number * share
    if expected > 30:
        drawn = round(rng.gauss(expected, math.sqrt(expected * (1 - share))))
        return min(max(drawn, 0), number)
    return _drawn_exactly(number, share, rng)


def _drawn_exactly(number: int, share: float, rng: random.Random) -> int:
    """Draw by inversion: sum the terms of the distribution, from 0 on, up to a random number."""
    wanted, ratio = rng.random(), share / (1 - share)
    term = total = (1 - share) ** number
    drawn = 0
    while total < wanted and drawn < number and (term > 1e-18 or drawn < number * share):
        term *= (number - drawn) / (drawn + 1) * ratio
        drawn += 1
        total += term
    return drawn
