"""Counts of a model's requests and answers, small enough to be sent every second."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

SHORTEST = 100e-6
"""Upper bound of the first latency bucket, in seconds."""
PER_OCTAVE = 4
"""Latency buckets for each doubling of the latency."""
LONGEST = 96
"""Number of the last latency bucket, about 28 minutes."""


@dataclass
class Counts:
    """Counts since the start. ``by_edge + by_cloud + errors`` is the number of answers.

    Attributes:
        by_edge, by_cloud: answers with the edge model's result and with the cloud model's.
        hard: samples that the rule found hard.
        degraded: hard samples that the edge answered.
        errors: requests answered with an error.
        compared, agreed: cloud answers compared with the edge's result, and those that are equal to it.
        bytes_offloaded: size of the requests that the cloud answered.
        latencies: answers by latency bucket; bucket n ends at SHORTEST · 2^(n / PER_OCTAVE) seconds.
    """

    by_edge: int = 0
    by_cloud: int = 0
    hard: int = 0
    degraded: int = 0
    errors: int = 0
    compared: int = 0
    agreed: int = 0
    bytes_offloaded: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    def add_latency(self, seconds: float) -> None:
        """Count one answer in its latency bucket, a quarter of an octave wide."""
        bucket = math.ceil(PER_OCTAVE * math.log2(seconds / SHORTEST)) if seconds > SHORTEST else 0
        self.latencies[min(bucket, LONGEST)] += 1
