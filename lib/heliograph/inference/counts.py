"""What a model was asked and how it answered, counted; small enough to be sent every second."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

SHORTEST = 100e-6
PER_OCTAVE = 4
LONGEST = 96


@dataclass
class Counts:
    """Since the start. ``by_edge + by_cloud + errors`` is all that was answered."""

    by_edge: int = 0
    by_cloud: int = 0
    hard: int = 0
    degraded: int = 0
    errors: int = 0
    compared: int = 0
    agreed: int = 0
    bytes_offloaded: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    def took(self, seconds: float) -> None:
        """One answer's latency, in a bucket of a quarter of an octave."""
        bucket = math.ceil(PER_OCTAVE * math.log2(seconds / SHORTEST)) if seconds > SHORTEST else 0
        self.latencies[min(bucket, LONGEST)] += 1
