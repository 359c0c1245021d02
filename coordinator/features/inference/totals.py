"""Add up the workers' counts of joint inference services, over restarts, edges and replicas. Pure.

A worker's message replaces its earlier ones, and a restarted worker counts from zero: keep each incarnation's newest
counts and add them. Neither the order of messages nor repeats make a difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heliograph.bus.contract.payloads import MAX_COUNT, InferenceStats, Payload, VersionStats
from heliograph.bus.contract.resources import ServiceNumbers
from heliograph.core.latencies import percentile
from heliograph.incremental.drift.shares import newest_drifts

INCARNATIONS_KEPT = 8
"""Incarnations of a worker whose counts are kept apart. Earlier ones are folded into one sum; a repeated message of
theirs would count again."""
_COUNTED = ("by_edge", "by_cloud", "hard", "degraded", "errors", "compared", "agreed", "bytes_offloaded")


class WorkerCounts(Payload):
    """The counts of one worker since it was first launched.

    Attributes:
        incarnations: the newest message of each of the last incarnations, in the order of their first messages.
        folded: the sum of the counts of earlier incarnations.
    """

    incarnations: dict[str, InferenceStats]
    folded: InferenceStats | None = None

    @property
    def newest(self) -> InferenceStats:
        return next(reversed(self.incarnations.values()))


def record(known: WorkerCounts | None, stats: InferenceStats) -> WorkerCounts:
    """Return the counts after a message of a worker; ``known`` itself where the message brings nothing new."""
    if known is None:
        return WorkerCounts(incarnations={stats.incarnation: stats})
    before = known.incarnations.get(stats.incarnation)
    if before is not None and (before == stats or _counted_events(before) > _counted_events(stats)):
        return known  # counts only grow: the message is an older one
    incarnations = known.incarnations | {stats.incarnation: stats}
    folded = known.folded
    while len(incarnations) > INCARNATIONS_KEPT:
        oldest = incarnations.pop(next(iter(incarnations)))
        folded = oldest if folded is None else oldest.model_copy(update=_sums([folded, oldest]))
    return WorkerCounts(incarnations=incarnations, folded=folded)


@dataclass(frozen=True)
class Totals:
    """The totals of a service: per edge, of its deep model, and over all edges.

    Attributes:
        ready: the workers that say that they answer, by their edge.
        versions: what the edges have counted of each version of their model, by its digest.
        drifts: of each edge, what its detectors of drift have seen; see ``InferenceStats.drift``.
    """

    edges: Mapping[str, ServiceNumbers] = field(default_factory=dict)
    cloud: ServiceNumbers = field(default_factory=ServiceNumbers)
    total: ServiceNumbers = field(default_factory=ServiceNumbers)
    ready: Mapping[str, frozenset[str]] = field(default_factory=dict)
    versions: Mapping[str, VersionStats] = field(default_factory=dict)
    drifts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def add_up(workers: Mapping[tuple[str, str], WorkerCounts], replicas: Collection[str]) -> Totals:
    """Return the totals of one service.

    Args:
        workers: the counts of its workers, by (edge, worker).
        replicas: names of the workers that run the deep model. The edges' workers count their answers as well, so the
            total over all edges leaves the replicas out.
    """
    ready: dict[str, frozenset[str]] = {}
    of_edges: dict[str, list[WorkerCounts]] = {}
    of_cloud: list[WorkerCounts] = []
    for (edge, worker), counts in sorted(workers.items()):
        if counts.newest.ready:
            ready[edge] = ready.get(edge, frozenset()) | {worker}
        (of_cloud if worker in replicas else of_edges.setdefault(edge, [])).append(counts)
    everyone = [counts for found in of_edges.values() for counts in found]
    total = _numbers(everyone).model_copy(update={"model": "", "trouble": ""})
    versions = _of_versions(stats for counts in everyone for stats in _every(counts))
    drifts = {edge: newest_drifts(counts.newest for counts in found) for edge, found in of_edges.items()}
    return Totals({edge: _numbers(found) for edge, found in of_edges.items()}, _numbers(of_cloud), total, ready,
                  versions, drifts)  # fmt: skip


def _numbers(workers: Collection[WorkerCounts]) -> ServiceNumbers:
    sums = InferenceStats.model_construct(**_sums(each for counts in workers for each in _every(counts)))
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


def _every(counts: WorkerCounts) -> list[InferenceStats]:
    """Return a worker's counts of all its incarnations."""
    return [each for each in (counts.folded, *counts.incarnations.values()) if each is not None]


def _of_versions(stats: Iterable[InferenceStats]) -> dict[str, VersionStats]:
    """Return the sums of each version, by its digest."""
    parts: dict[str, list[VersionStats]] = {}
    for each in stats:
        for digest, counted in each.versions.items():
            parts.setdefault(digest, []).append(counted)
    return {digest: added_up(found) for digest, found in parts.items()}


def added_up(parts: Sequence[VersionStats]) -> VersionStats:
    """Return the sum of what several workers, or services, have counted of one version."""
    latencies: Counter[str] = Counter()
    for each in parts:
        latencies.update(each.latencies)
    counted = {name: min(sum(getattr(each, name) for each in parts), MAX_COUNT)
               for name in ("requests", "errors", "compared", "agreed", "rejected")}  # fmt: skip
    return VersionStats(**counted, latencies={bucket: min(count, MAX_COUNT) for bucket, count in latencies.items()})


def _sums(stats: Iterable[InferenceStats]) -> dict[str, Any]:
    every = list(stats)
    latencies: Counter[str] = Counter()
    for each in every:
        latencies.update(each.latencies)
    counted: dict[str, Any] = {
        name: min(sum(getattr(each, name) for each in every), MAX_COUNT) for name in _COUNTED
    }
    return counted | {
        "latencies": {bucket: min(count, MAX_COUNT) for bucket, count in latencies.items()},
        "versions": _of_versions(every),
    }


def _counted_events(stats: InferenceStats) -> int:
    return sum(int(getattr(stats, name)) for name in _COUNTED) + sum(stats.latencies.values())
