"""The accuracy/offload curve as one HTML page with an SVG plot; the page loads nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from math import ceil, floor, log10

from heliograph.inference.tuning.curve import Choice, Curve, thinned

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 20, 56
MAX_POINTS = 400
"""Points of the line; more would not be visible."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --rule: #d8dee4; --paper: #fff; --line: #0a5cb8;
  --mark: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b1; --rule: #30363d; --paper: #0d1117;
  --line: #6cb0ff; --mark: #ff8a75; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 800px; padding: 0 1rem; }
svg { height: auto; width: 100%; }
svg text { fill: var(--soft); font: 13px system-ui, sans-serif; }
.grid { stroke: var(--rule); } .curve { fill: none; stroke: var(--line); stroke-width: 2; }
.chance { stroke: var(--soft); stroke-dasharray: 5 5; } .chosen { fill: var(--mark); }
svg .label { fill: var(--mark); font-weight: 600; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } caption { text-align: left; }
th, td { border-bottom: 1px solid var(--rule); padding: .25rem 1rem .25rem 0; text-align: right; }
"""


def page(curve: Curve, choice: Choice | None = None, title: str = "Accuracy and offload") -> str:
    """Return the HTML document: the curve, the straight line of a random rule, the choice, and a table of points.

    Colours follow the reader's light or dark setting. The plot has a title, a description and labelled axes.
    """
    summary = f"Rule {curve.rule}, {curve.samples} samples. Edge alone {curve.edge_accuracy:.4f}, cloud alone "
    summary += f"{curve.cloud_accuracy:.4f}."
    if choice is not None:
        summary += f" Chosen: {curve.parameter} = {choice.point.value:.6g}; {choice.sentence()}."
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n<p>{escape(summary)}</p>\n"
        f"{_svg(curve, choice, title, summary)}\n{_table(curve)}\n</body>\n</html>\n"
    )


def _svg(curve: Curve, choice: Choice | None, title: str, summary: str) -> str:
    shown = thinned(curve, MAX_POINTS)
    ends = [curve.edge_accuracy, curve.cloud_accuracy]
    low, high, step = axis([*shown.accuracy.tolist(), *ends])

    def x(offload: float) -> float:
        return LEFT + offload * (WIDTH - LEFT - RIGHT)

    def y(accuracy: float) -> float:
        return HEIGHT - BOTTOM - (accuracy - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    line = " ".join(f"{x(o):.1f},{y(a):.1f}" for o, a in zip(shown.offload, shown.accuracy, strict=True))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title about">',
        f'<title id="title">{escape(title)}</title><desc id="about">{escape(summary)}</desc>',
        *_grid(x, y, low, high, step),
        f'<line class="chance" x1="{x(0):.1f}" y1="{y(ends[0]):.1f}" x2="{x(1):.1f}" y2="{y(ends[1]):.1f}"/>',
        f'<polyline class="curve" points="{line}"/>',
    ]
    if choice is not None:
        parts.append(_mark(x(choice.point.offload), y(choice.point.accuracy), curve, choice))
    return "\n".join([*parts, "</svg>", '<p>Dashed: samples sent to the cloud at random.</p>'])


def _grid(
    x: Callable[[float], float], y: Callable[[float], float], low: float, high: float, step: float
) -> Iterable[str]:
    for number in range(round((high - low) / step) + 1):
        at = low + number * step
        yield f'<line class="grid" x1="{x(0):.1f}" y1="{y(at):.1f}" x2="{x(1):.1f}" y2="{y(at):.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(at) + 4:.1f}" text-anchor="end">{at:.{max(2, digits_of(step))}f}</text>'
    for number in range(6):
        yield f'<text x="{x(number / 5):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{number * 20} %</text>'
    yield f'<text x="{x(0.5):.1f}" y="{HEIGHT - 10}" text-anchor="middle">samples sent to the cloud</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">accuracy</text>'


def _mark(x: float, y: float, curve: Curve, choice: Choice) -> str:
    anchor, beside = ("end", -12) if x > WIDTH * 0.7 else ("start", 12)  # put the label on the side with room
    words = f"{curve.parameter} {choice.point.value:.4g}: {choice.point.accuracy:.4f} at {choice.point.offload:.1%}"
    return (
        f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
        f'<text class="label" x="{x + beside:.1f}" y="{y + 22:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _table(curve: Curve) -> str:
    shown = thinned(curve, 20)
    rows = "".join(
        f"<tr><td>{value:.6g}</td><td>{offload:.1%}</td><td>{accuracy:.4f}</td></tr>"
        for value, offload, accuracy in zip(shown.values, shown.offload, shown.accuracy, strict=True)
    )
    return (
        f'<table><caption>Points of the curve</caption><thead><tr><th scope="col">{escape(curve.parameter)}</th>'
        f'<th scope="col">offload</th><th scope="col">accuracy</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def axis(values: Iterable[float]) -> tuple[float, float, float]:
    """Return the round ends of an axis that covers the values, and the step between its four to ten grid lines."""
    found = list(values)
    span = max(max(found) - min(found), 1e-3)
    rough = span / 5
    scale = 10 ** floor(log10(rough))
    step = next(each * scale for each in (1, 2, 5, 10) if each * scale >= rough)
    low, high = floor(min(found) / step) * step, ceil(max(found) / step) * step
    return low, high if high > low else low + step, step


def digits_of(step: float) -> int:
    """Return the number of decimals that distinguish the grid lines."""
    return max(0, -floor(log10(step) + 1e-9))
