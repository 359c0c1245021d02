"""Which task a labelled sample trains: more is known of it than where a sample is only answered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
NONE = -1
SLACK = 1.5
"""How little a sample may be known of which the task has given the right class."""


def placed(
    nearest: Array, unknown: Array, answers: Array, y: Array, classes: Sequence[Sequence[int]], settled: Array
) -> Array:
    """Return the number (n) of the task that each sample trains, or ``NONE``.

    Args:
        nearest: the task that knows each sample best.
        unknown: how little it does, up to 1 for a known one.
        answers: the class that it gives.
        y: the class that the sample has.
        classes: those that each task knows.
        settled: samples that a task has been made of before: what lies beyond its limit is still its own. Without
            that, the rare samples of a task would make another one after some rounds.
    """
    reachable = np.isfinite(unknown)
    is_own = (unknown <= 1) | ((answers == y) & (unknown <= SLACK))
    found = np.where(reachable & is_own, nearest, NONE)
    for number, known in enumerate(classes):
        for name in sorted(set(y[found == number].tolist()) - set(known)):
            inside, outside = (found == number) & (y == name), (found == NONE) & (y == name)
            if outside.sum() >= inside.sum():  # a class whose samples are mostly strange is none of the task
                found[inside] = NONE
    return np.where(settled & reachable, nearest, found)
