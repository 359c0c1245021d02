"""The edge model's scores of one sample as plain numbers: for so few of them Python is faster than NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any

Scores = Iterable[float] | None
"""One number for each class (probabilities that sum to 1; logits for ``energy``), or for a detector one confidence for
each box: a list, a 1-D array, or a tensor on the CPU. None means that the model gave no scores."""


def as_list(scores: Scores) -> list[float] | None:
    """Return the scores as a new list; None if they are unreadable.

    Scores are unreadable if they are None, are no flat sequence of real numbers, contain NaN or infinity, or have an
    infinite sum.
    """
    as_given: Any = scores
    try:
        found: list[float] = as_given.tolist() if hasattr(as_given, "tolist") else list(as_given)
        total = sum(found)  # NaN and infinity survive a sum, so one check finds them
        if not isinstance(total, (float, int)):  # NumPy's own small floats, in a list
            found = [float(each) for each in found]
            total = sum(found)
        return found if isfinite(total) else None
    except (TypeError, ValueError, OverflowError):
        return None
