"""Always: every sample is hard. The cloud answers alone, as a baseline."""

from __future__ import annotations

from heliograph.inference.hard_samples.scores import Scores


def always(scores: Scores) -> bool:
    """Return True for all scores."""
    return True
