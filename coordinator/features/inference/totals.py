"""What joint inference services were asked: workers' counts added up, over restarts, edges and replicas. Pure.

A worker's message replaces its one before and a restarted worker counts from zero, so each incarnation's newest counts
are kept and added. The order in which messages come, and how often, makes no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heliograph.bus.contract.payloads import InferenceStats, Payload
from heliograph.bus.contract.resources import ServiceNumbers

KEPT = 8
"""Incarnations of a worker that are counted each by itself. Earlier ones are one sum; an old message of theirs,
repeated, would count again."""
BUCKETS_PER_DOUBLING = 4
FIRST_BUCKET = 1e-4
"""Seconds: the upper bound of bucket 0."""
_COUNTED = ("by_edge", "by_cloud", "hard", "degraded", "errors", "compared", "agreed", "bytes_offloaded")


class WorkerCounts(Payload):
    """What one worker has counted since it was first launched.

    Attributes:
        incarnations: the newest message of each of the last few, in the order in which they were first heard of.
        folded: the sum of what the incarnations before them counted.
    """

    incarnations: dict[str, InferenceStats]
    folded: InferenceStats | None = None

    @property
    def newest(self) -> InferenceStats:
        return next(reversed(self.incarnations.values()))


def take(known: WorkerCounts | None, stats: InferenceStats) -> WorkerCounts:
    """Return the counts after a message of a worker; ``known`` itself where nothing is new."""
    if known is None:
        return WorkerCounts(incarnations={stats.incarnation: stats})
    before = known.incarnations.get(stats.incarnation)
    if before is not None and (before == stats or _all(before) > _all(stats)):
        return known  # counts only grow: that was an older one
    incarnations = known.incarnations | {stats.incarnation: stats}
    folded = known.folded
    while len(incarnations) > KEPT:
        oldest = incarnations.pop(next(iter(incarnations)))
        folded = oldest if folded is None else oldest.model_copy(update=_sums([folded, oldest]))
    return WorkerCounts(incarnations=incarnations, folded=folded)


@dataclass(frozen=True)
class Numbers:
    """What a service was asked: on each edge, of its deep model, and on all edges together."""

    edges: Mapping[str, ServiceNumbers] = field(default_factory=dict)
    cloud: ServiceNumbers = field(default_factory=ServiceNumbers)
    total: ServiceNumbers = field(default_factory=ServiceNumbers)


def add_up(workers: Mapping[tuple[str, str], WorkerCounts], replicas: Collection[str]) -> Numbers:
    """The numbers of one service, whose ``workers`` are named by (edge, worker).

    Args:
        replicas: names of the workers that run the deep model. What they answer their askers have counted as well.
    """
    of_edges: dict[str, list[WorkerCounts]] = {}
    of_cloud: list[WorkerCounts] = []
    for (edge, worker), counts in sorted(workers.items()):
        (of_cloud if worker in replicas else of_edges.setdefault(edge, [])).append(counts)
    everyone = [counts for found in of_edges.values() for counts in found]
    total = _numbers(everyone).model_copy(update={"model": "", "trouble": ""})
    return Numbers({edge: _numbers(found) for edge, found in of_edges.items()}, _numbers(of_cloud), total)


def percentile(latencies: Mapping[str, int], share: float) -> float | None:
    """Seconds within which that share of the answers came; None where there is none.

    It is the upper bound of a bucket, 2^(n/4) × 100 µs: up to a fifth more than it was, and never less.
    """
    wanted = share * sum(latencies.values())
    seen = 0
    for bucket, count in sorted((int(bucket), count) for bucket, count in latencies.items() if count):
        seen += count
        if seen >= wanted:
            return float(FIRST_BUCKET * 2 ** (bucket / BUCKETS_PER_DOUBLING))
    return None


def _numbers(workers: Collection[WorkerCounts]) -> ServiceNumbers:
    sums = InferenceStats.model_construct(
        **_sums(each for counts in workers for each in (counts.folded, *counts.incarnations.values()) if each)
    )
    answered = sums.by_edge + sums.by_cloud + sums.errors
    return ServiceNumbers(
        requests=answered,
        by_edge=sums.by_edge,
        by_cloud=sums.by_cloud,
        hard=sums.hard,
        degraded=sums.degraded,
        errors=sums.errors,
        offload_ratio=round(sums.by_cloud / answered, 4) if answered else 0.0,
        agreement=round(sums.agreed / sums.compared, 4) if sums.compared else None,
        p50_seconds=percentile(sums.latencies, 0.5),
        p99_seconds=percentile(sums.latencies, 0.99),
        bytes_offloaded=sums.bytes_offloaded,
        model=next((counts.newest.model for counts in workers if counts.newest.model), ""),
        trouble="; ".join(dict.fromkeys(counts.newest.trouble for counts in workers if counts.newest.trouble))[:1000],
    )


def _sums(stats: Iterable[InferenceStats]) -> dict[str, Any]:
    every = list(stats)
    latencies: Counter[str] = Counter()
    for each in every:
        latencies.update(each.latencies)
    counted: dict[str, Any] = {name: sum(getattr(each, name) for each in every) for name in _COUNTED}
    return counted | {"latencies": dict(latencies)}


def _all(stats: InferenceStats) -> int:
    return sum(int(getattr(stats, name)) for name in _COUNTED) + sum(stats.latencies.values())
