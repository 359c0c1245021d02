"""The rule for regressions; pure.

A figure has got worse if it differs from the median of the last runs on comparable machines by more than 15 %, by more
than three times their scatter (the median absolute deviation, scaled to the standard deviation of normal noise), and by
more than its declared slack. Each condition has its reason. The scatter alone raises an alarm at 1 % if earlier runs
happen to agree. The share alone raises one if a figure always jumps by 30 %. Both raise one if a figure is close to
zero. Baseline and scatter are medians, so that one run on a busy machine moves neither. Fewer than three earlier runs
give no verdict.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.declaration import Better

LAST = 10
"""Number of earlier runs that count. Older runs measured a different program."""
FEWEST = 3
SHARE = 0.15
DEVIATIONS = 3.0
NORMAL = 1.4826
"""Standard deviation of normal noise, in median absolute deviations."""

Verdict = Literal["new", "same", "worse", "better"]


@dataclass(frozen=True)
class Judgement:
    """The verdict on one figure.

    Attributes:
        baseline: value that the figure is compared with; None if there is none.
        change: relative growth (0.2 is 20 % more, better or worse); None if the baseline is zero.
    """

    verdict: Verdict
    baseline: float | None = None
    change: float | None = None


def judge(value: float, earlier: Sequence[float], better: Better, slack: float = 0.0) -> Judgement:
    """Compare a figure with its values in earlier runs, oldest first."""
    last = earlier[-LAST:]
    if not last:
        return Judgement("new")
    baseline = statistics.median(last)
    scatter = NORMAL * statistics.median(abs(each - baseline) for each in last)
    allowed = max(DEVIATIONS * scatter, SHARE * abs(baseline), slack)
    enough = len(last) >= FEWEST
    return _judgement(value, baseline, better, enough and abs(value - baseline) > allowed, "same" if enough else "new")


def judge_against(
    value: float, spread: tuple[float, float], then: float, then_spread: tuple[float, float], better: Better,
    slack: float = 0.0,
) -> Judgement:  # fmt: skip
    """Compare a figure with one run: different if by more than 15 % and the slack, and neither median lies within the
    other's spread."""
    apart = not spread[0] <= then <= spread[1] and not then_spread[0] <= value <= then_spread[1]
    return _judgement(value, then, better, apart and abs(value - then) > max(SHARE * abs(then), slack), "same")


def _judgement(value: float, baseline: float, better: Better, differs: bool, otherwise: Verdict) -> Judgement:
    change = (value - baseline) / abs(baseline) if baseline else None
    if not differs:
        return Judgement(otherwise, baseline, change)
    return Judgement("worse" if (value > baseline) == (better == "lower") else "better", baseline, change)
