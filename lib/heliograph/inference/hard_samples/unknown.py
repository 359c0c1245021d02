"""Unknown: a sample is hard if the model gives too much of its probability to none of the classes.

A lifelong model (``heliograph.lifelong``) says so: its scores sum to less than 1 the less any of its tasks knows the
sample.
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, as_list


def unknown(
    scores: Scores,
    *,
    limit: Annotated[
        float, Field(ge=0, le=1, description="A sample is hard above this probability of none of the classes.")
    ] = 0.5,
) -> bool:
    """Return whether the scores lack more than ``limit`` of the sum 1.

    Unreadable scores (see ``as_list``) and an empty list are hard at every limit. Zeros alone are hard below the limit
    1. Scores with the sum 1, as a softmax gives them, are never hard, so of other models the rule finds nothing. It
    reads the scores as they are: a temperature other than 1 would change their sum.
    """
    return missing(scores) > limit


def missing(scores: Scores) -> float:
    """Return what the scores lack of the sum 1; infinity for no or unreadable scores."""
    found = as_list(scores)
    return 1 - sum(found) if found else inf
