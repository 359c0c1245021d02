"""Metrics over a job's rounds, as a bar for each round and as a plot of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BARS = "▁▂▃▄▅▆▇█"


def curves(job: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return each metric's values over the rounds: from evaluations if there are any, else from participants."""
    records = job.get("status", {}).get("rounds", ())
    measured = [each["evaluation"] for each in records if each.get("evaluation")]
    found: dict[str, list[float]] = {}
    for metrics in measured or [each.get("metrics", {}) for each in records]:
        for name, value in metrics.items():
            found.setdefault(name, []).append(value)
    return dict(sorted(found.items(), key=lambda item: (item[0] != "accuracy", item[0])))


def sparkline(values: list[float], most: int = 30) -> str:
    """Return a bar for each of the last values, scaled from the least to the greatest."""
    shown = values[-most:]
    low, high = min(shown), max(shown)
    step = (high - low) / (len(BARS) - 1) or 1
    return "".join(BARS[round((value - low) / step)] for value in shown)


def plot(name: str, values: list[float], width: int = 64, height: int = 12) -> str:
    """Plot a metric over the rounds as text; say the only value, of which there is no curve."""
    if len(values) < 2:
        return "".join(f"{name} after one round: {value:.4g}" for value in values)
    from plotext import figure, uncolorize

    figure.clear()
    figure.plot_size(width, height)
    curve = figure.signal(list(range(1, len(values) + 1)), values, marker="braille")
    figure.draw(curve.lines())
    step = -(-len(values) // 10)
    figure.ruler("x").ticks(list(range(1, len(values) + 1, step)))
    figure.title(f"{name} over {len(values)} rounds")
    return str(uncolorize(str(figure.build())))
