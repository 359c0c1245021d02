"""Latencies as counts in buckets a quarter of an octave wide: bucket n ends at 2^(n/4) × 100 µs."""

from __future__ import annotations

import math
from collections.abc import Mapping

SHORTEST = 100e-6
"""Upper bound of the first bucket, in seconds."""
PER_OCTAVE = 4
"""Buckets for each doubling of the latency."""
LONGEST = 96
"""Number of the last bucket, about 28 minutes."""


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket that a latency falls into."""
    bucket = math.ceil(PER_OCTAVE * math.log2(seconds / SHORTEST)) if seconds > SHORTEST else 0
    return min(bucket, LONGEST)


def percentile(latencies: Mapping[str, int], share: float) -> float | None:
    """Return the seconds within which that share of the answers came; None where there is no answer.

    The result is the upper bound of a bucket: up to a fifth above the true value, never below it.
    """
    wanted = share * sum(latencies.values())
    seen = 0
    for bucket, count in sorted((int(bucket), count) for bucket, count in latencies.items() if count):
        seen += count
        if seen >= wanted:
            return float(SHORTEST * 2 ** (bucket / PER_OCTAVE))
    return None
