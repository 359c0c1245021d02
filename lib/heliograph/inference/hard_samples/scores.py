"""What the edge's model says of one sample, as plain numbers: for so few of them Python is quicker than NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any

Scores = Iterable[float] | None
"""One number a class (probabilities that sum to 1; logits for ``energy``), or for a detector one confidence a box: a
list, a 1-D array, a tensor on the CPU. None: the model has none to give."""


def listed(scores: Scores) -> list[float] | None:
    """The scores as a new list; None where they cannot be read.

    Unreadable is what is no flat sequence of real numbers, and what holds NaN or an infinity, or numbers so large
    that their sum is infinite.
    """
    as_given: Any = scores
    try:
        found: list[float] = as_given.tolist() if hasattr(as_given, "tolist") else list(as_given)
        total = sum(found)  # NaN and infinity stay in a sum, so that one look finds them
        if not isinstance(total, (float, int)):  # NumPy's own small floats, in a list
            found = [float(each) for each in found]
            total = sum(found)
        return found if isfinite(total) else None
    except (TypeError, ValueError, OverflowError):
        return None
