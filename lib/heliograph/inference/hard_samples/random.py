"""Random: a random share of the samples is hard. Every other rule has to beat this baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores


def random(
    scores: Scores,
    *,
    share: Annotated[float, Field(ge=0, le=1, description="Share of the samples that are hard.")] = 0.1,
    draw: Callable[[], float],
) -> bool:
    """Return whether a number from ``draw``, at least 0 and below 1, is below ``share``.

    The scores do not matter: no sample is hard at share 0, and every sample is at share 1.
    """
    return draw() < share
