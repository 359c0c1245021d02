"""Random: a share of the samples, whatever the model says of them. What every other rule has to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores


def random(
    scores: Scores,
    *,
    share: Annotated[float, Field(ge=0, le=1, description="Of the samples that are hard.")] = 0.1,
    draw: Callable[[], float],
) -> bool:
    """Whether a number that ``draw`` gives, 0 up to but not 1, is below ``share``. The scores, unreadable or none, do
    not matter: 0 is never and 1 is always."""
    return draw() < share
