"""Never: no sample is hard. The edge answers alone, as a baseline."""

from __future__ import annotations

from heliograph.inference.hard_samples.scores import Scores


def never(scores: Scores) -> bool:
    """Return False for all scores."""
    return False
