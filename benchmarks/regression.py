"""When a figure is worse than it was: the rule, pure.

A figure has got worse when it is worse than the median of the last runs on the same machine by more than 15 %, and by
more than three times their scatter (the median absolute deviation, scaled so that it is the standard deviation where
noise is normal), and by more than the slack that it declares. Each part is there for a reason: the scatter alone
would cry out at 1 % where runs happen to agree, the share alone where a figure always jumps by 30 %, and both where a
figure is close to nought. Medians, because one run on a busy machine must move neither baseline nor scatter. Fewer than
three earlier runs tell nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.declaration import Better

LAST = 10
"""Runs that count. An older one was another program."""
FEWEST = 3
SHARE = 0.15
DEVIATIONS = 3.0
NORMAL = 1.4826
"""A standard deviation in median absolute deviations, where noise is normal."""

Verdict = Literal["new", "same", "worse", "better"]


@dataclass(frozen=True)
class Judgement:
    """``baseline`` is what the figure is held against, None where there is nothing; ``change`` the share by which it
    has grown (0.2 is 20 % more, whether that is better or worse), None where the baseline is nought."""

    verdict: Verdict
    baseline: float | None = None
    change: float | None = None


def judge(value: float, earlier: Sequence[float], better: Better, slack: float = 0.0) -> Judgement:
    """Holds a figure against those of earlier runs, oldest first."""
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
    """Holds a figure against one run: another by more than 15 % and the slack, and neither median within the other's
    spread."""
    apart = not spread[0] <= then <= spread[1] and not then_spread[0] <= value <= then_spread[1]
    return _judgement(value, then, better, apart and abs(value - then) > max(SHARE * abs(then), slack), "same")


def _judgement(value: float, baseline: float, better: Better, differs: bool, otherwise: Verdict) -> Judgement:
    change = (value - baseline) / abs(baseline) if baseline else None
    if not differs:
        return Judgement(otherwise, baseline, change)
    return Judgement("worse" if (value > baseline) == (better == "lower") else "better", baseline, change)
