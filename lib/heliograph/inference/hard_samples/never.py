"""Never: no sample is hard. The edge alone, to compare with."""

from __future__ import annotations

from heliograph.inference.hard_samples.scores import Scores


def never(scores: Scores) -> bool:
    """False, whatever the scores are."""
    return False
