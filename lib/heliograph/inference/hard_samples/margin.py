"""Margin: hard where the best class is hardly ahead of the second.

Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", IDA 2001,
https://doi.org/10.1007/3-540-44816-0_31
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, listed


def margin(
    scores: Scores,
    *,
    value: Annotated[float, Field(ge=0, le=1, description="Below this lead of the best class a sample is hard.")] = 0.5,
) -> bool:
    """Whether the highest probability exceeds the second highest by less than ``value``.

    Choices: no scores at all, NaN, infinity or what is no list of numbers is hard, whatever the value. With one class
    the second is 0. Two equal ones, all zero among them, have no lead and are hard at every value above 0.
    """
    return lead(scores) < value


def lead(scores: Scores) -> float:
    """The highest probability less the second; minus infinity where there is none to read."""
    found = listed(scores)
    return lead_of(found) if found else -inf


def lead_of(found: list[float]) -> float:
    """``lead`` of scores that are read already, one at least."""
    first = max(found)
    others = found.copy()
    others.remove(first)
    return first - max(others, default=0.0)
