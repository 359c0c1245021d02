"""From samples to figures: a median with its spread, never one number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.declaration import OURS, Benchmark, Metric, Samples


@dataclass(frozen=True)
class Figure:
    """The median of ``count`` observations, which lie between ``low`` and ``high``, in the metric's unit."""

    benchmark: str
    metric: Metric
    value: float
    low: float
    high: float
    count: int
    group: str = ""
    by: str = OURS

    @property
    def id(self) -> str:
        """Its name in the history."""
        return f"{self.benchmark}/{self.metric.label}"

    @property
    def missed(self) -> bool:
        """Whether the target is missed; never without one."""
        target = self.metric.target
        if target is None:
            return False
        return self.value < target if self.metric.better == "higher" else self.value > target


def figures(benchmark: Benchmark, repeats: Sequence[Samples]) -> list[Figure]:
    """The figures that a benchmark declares, of its repeats. Raises ValueError where a measurement left one out."""
    return [
        _figure(benchmark, metric, [each for samples in repeats for each in taken(metric, samples)])
        for metric in benchmark.metrics
    ]


def ratios(chosen: Sequence[Benchmark], found: Mapping[str, Sequence[Samples]]) -> list[Figure]:
    """How many times ours each peer's figure is, turn by turn, for the metrics that are ``paired``: what both share of
    the machine's mood falls out of it."""
    told = []
    for ours in (each for each in chosen if not each.peer and found.get(each.name)):
        for metric in (each for each in ours.metrics if each.paired):
            for peer in (each for each in chosen if each.peer and found.get(each.name)):
                theirs = next((each for each in peer.metrics if each.question == metric.question), None)
                if theirs is None:
                    continue
                laps = [
                    statistics.median(taken(theirs, other)) / statistics.median(taken(metric, mine))
                    for mine, other in zip(found[ours.name], found[peer.name], strict=False)
                ]
                name = f"{metric.label} of {peer.name}"
                ratio = Metric(metric.key, f"{metric.title}: {peer.by} / ours", "×", better="higher", name=name)
                told.append(_figure(ours, ratio, laps))
    return told


def taken(metric: Metric, samples: Samples) -> list[float]:
    """What counts of one run."""
    values = sorted(samples.get(metric.key, ()))
    if not values:
        raise ValueError(f"the measurement returned no {metric.key!r}, but {', '.join(samples) or 'nothing'}")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the measurement returned {metric.key} = {values}: not all of them numbers")
    if metric.take == "each":
        return values
    if metric.take == "p50":
        return [statistics.median(values)]
    return [values[-1] if metric.take == "max" else values[min(len(values) - 1, int(0.99 * len(values)))]]


def _figure(benchmark: Benchmark, metric: Metric, values: Sequence[float]) -> Figure:
    value, low, high = (rounded(each) for each in (statistics.median(values), min(values), max(values)))
    return Figure(benchmark.name, metric, value, low, high, len(values), benchmark.group, benchmark.by)


def rounded(value: float) -> float:
    """Four digits that count; more would be noise."""
    return float(f"{value:.4g}")
