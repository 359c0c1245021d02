"""Always: every sample is hard. The cloud alone, to compare with."""

from __future__ import annotations

from heliograph.inference.hard_samples.scores import Scores


def always(scores: Scores) -> bool:
    """True, whatever the scores are."""
    return True
