"""Counts of a model's requests and answers, small enough to be sent every second."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from heliograph.core.latencies import bucket_of

VERSIONS_KEPT = 4
"""Versions of the model whose counts are kept: the newest."""


@dataclass
class VersionCounts:
    """Counts of one version of the edge's model; ``compared`` and ``agreed`` with the one that is deployed.

    ``rejected`` counts the trials that it did not stand.
    """

    requests: int = 0
    errors: int = 0
    compared: int = 0
    agreed: int = 0
    rejected: int = 0
    latencies: Counter[int] = field(default_factory=Counter)


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
        latencies: answers by latency bucket, see ``core.latencies``.
        versions: counts by the digest of the version, the newest last.
        drift: what a detector watches and its name to the time at which it last saw a drift.
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
    versions: dict[str, VersionCounts] = field(default_factory=dict)
    drift: dict[str, float] = field(default_factory=dict)

    def add_latency(self, seconds: float, version: str = "") -> None:
        """Count one answer in its latency bucket, for the version that has seen the request too."""
        bucket = bucket_of(seconds)
        self.latencies[bucket] += 1
        if version:
            counted = self.of(version)
            counted.requests += 1
            counted.latencies[bucket] += 1

    def of(self, version: str) -> VersionCounts:
        """Return the counts of a version, from zero where it is new."""
        found = self.versions.get(version)
        if found is None:
            found = self.versions[version] = VersionCounts()
            while len(self.versions) > VERSIONS_KEPT:
                del self.versions[next(iter(self.versions))]
        return found
