"""Margin: a sample is hard if the best class leads the second by little.

Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", IDA 2001,
https://doi.org/10.1007/3-540-44816-0_31
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, as_list


def margin(
    scores: Scores,
    *,
    value: Annotated[float, Field(ge=0, le=1, description="A sample is hard below this lead of the best class.")] = 0.5,
) -> bool:
    """Return whether the highest probability exceeds the second highest by less than ``value``.

    Unreadable scores (see ``as_list``) and an empty list are hard at every value. With one class the second
    probability counts as 0. Two equal highest scores, zeros too, have no lead and are hard at every value above 0.
    """
    return lead(scores) < value


def lead(scores: Scores) -> float:
    """Return the highest probability minus the second; minus infinity for no or unreadable scores."""
    found = as_list(scores)
    return lead_of(found) if found else -inf


def lead_of(found: list[float]) -> float:
    """Return the ``lead`` of scores read by ``as_list``, at least one."""
    first = max(found)
    others = found.copy()
    others.remove(first)
    return first - max(others, default=0.0)
