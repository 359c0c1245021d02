"""Figures computed from samples: a median with its spread, never a single number."""

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
        """Return the name in the history."""
        return f"{self.benchmark}/{self.metric.label}"

    @property
    def missed(self) -> bool:
        """Return whether the figure misses its target; False without a target."""
        target = self.metric.target
        if target is None:
            return False
        return self.value < target if self.metric.better == "higher" else self.value > target


def figures(benchmark: Benchmark, repeats: Sequence[Samples]) -> list[Figure]:
    """Return the figures that a benchmark declares, from its runs. Raises ValueError if a run lacks one of them."""
    return [
        _figure(benchmark, metric, [each for samples in repeats for each in observations(metric, samples)])
        for metric in benchmark.metrics
    ]


def ratios(chosen: Sequence[Benchmark], found: Mapping[str, Sequence[Samples]]) -> list[Figure]:
    """Return each peer's figure over ours, turn by turn, for ``paired`` metrics.

    Load on the machine meets both sides of a turn, so the ratio cancels it.
    """
    result = []
    for ours in (each for each in chosen if not each.peer and found.get(each.name)):
        for metric in (each for each in ours.metrics if each.paired):
            for peer in (each for each in chosen if each.peer and found.get(each.name)):
                theirs = next((each for each in peer.metrics if each.question == metric.question), None)
                if theirs is None:
                    continue
                laps = [
                    statistics.median(observations(theirs, peer_run)) / statistics.median(observations(metric, our_run))
                    for our_run, peer_run in zip(found[ours.name], found[peer.name], strict=False)
                ]
                name = f"{metric.label} of {peer.name}"
                ratio = Metric(metric.key, f"{metric.title}: {peer.by} / ours", "×", better="higher", name=name)
                result.append(_figure(ours, ratio, laps))
    return result


def observations(metric: Metric, samples: Samples) -> list[float]:
    """Return the observations of one run, by the metric's statistic. Raises ValueError if they are missing or not
    finite."""
    values = sorted(samples.get(metric.key, ()))
    if not values:
        raise ValueError(f"the measurement returned no {metric.key!r}, only {', '.join(samples) or 'nothing'}")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the measurement returned {metric.key} = {values}: expected finite numbers")
    if metric.statistic == "each":
        return values
    if metric.statistic == "p50":
        return [statistics.median(values)]
    return [values[-1] if metric.statistic == "max" else values[min(len(values) - 1, int(0.99 * len(values)))]]


def _figure(benchmark: Benchmark, metric: Metric, values: Sequence[float]) -> Figure:
    value, low, high = (rounded(each) for each in (statistics.median(values), min(values), max(values)))
    return Figure(benchmark.name, metric, value, low, high, len(values), benchmark.group, benchmark.by)


def rounded(value: float) -> float:
    """Round to four significant digits; more would be noise."""
    return float(f"{value:.4g}")
