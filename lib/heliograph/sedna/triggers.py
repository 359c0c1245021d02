"""Sedna's triggers as ours: when a round begins, and what a candidate has to gain."""

from __future__ import annotations

from typing import Any

from heliograph.core.errors import Refused
from heliograph.sedna.fields import Fields
from heliograph.sedna.values import time_of_day

_SAMPLES = "num_of_samples"
_GREATER = (">", ">=", "gt", "ge")
_WHOLE_DAY = ((0, 0), (24, 0))


def train_trigger(given: Fields) -> dict[str, Any]:
    """Return the condition by which a round begins; empty where the document has none."""
    found: dict[str, Any] = {}
    if (seconds := given.number("checkPeriodSeconds")) is not None:
        found["checkSeconds"] = seconds
    timer = given.part("timer")
    start, end = _time(timer, "start"), _time(timer, "end")
    if start is not None and (start, end) != _WHOLE_DAY:
        hour, minute = start
        found["cron"] = f"{minute} {hour % 24} * * *"
        timer.changed("start", f"{found['cron']!r} is a time of UTC, not of the node; from it on the condition holds "
                      "until the next round begins")  # fmt: skip
        timer.drop("a schedule has no end", "end")
    timer.drop_rest()
    condition = given.part("condition")
    metric, operator = condition.text("metric"), condition.text("operator")
    threshold = condition.number("threshold")
    if metric == _SAMPLES and operator in _GREATER and threshold is not None and threshold >= 0:
        found["newSamples"] = max(1, int(threshold) + (operator in (">", "gt")))
    elif condition.tree:
        condition.drop(f"a round begins by {_SAMPLES} above a bound; other conditions are metricDrop and drift",
                       *condition.tree)  # fmt: skip
    condition.drop_rest()
    given.drop_rest()
    return found


def gate(given: Fields) -> dict[str, Any]:
    """Return what a candidate has to meet; empty where the document says nothing that the gate measures."""
    found: dict[str, Any] = {}
    condition = given.part("condition")
    metric, operator = condition.text("metric"), condition.text("operator")
    threshold = condition.number("threshold")
    if metric.endswith("_delta") and operator in _GREATER and threshold is not None and 0 <= threshold < 1:
        found["margin"] = threshold
        condition.changed("metric", f"gate.margin in place of {metric}: the gate measures the gain in accuracy on "
                          "samples that no training has seen, and asks for more than chance")  # fmt: skip
    elif condition.tree:
        condition.drop("a gate asks for a gain (NAME_delta) from 0 to 1, with > or >=; gate.floor bounds the recall of "
                       "each class", *condition.tree)  # fmt: skip
    condition.drop_rest()
    why = "a candidate is deployed when it has passed; 'deploy' may name a schedule"
    given.drop(why, "timer", "checkPeriodSeconds")
    given.drop_rest()
    return found


def _time(timer: Fields, name: str) -> tuple[int, int] | None:
    value = timer.take(name)
    if value is None:
        return None
    found = time_of_day(value)
    if found is None:
        raise Refused("invalid", field=timer.at(name), expected="a time such as 02:30", got=value)
    return found
