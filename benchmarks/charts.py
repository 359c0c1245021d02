"""Two small SVG charts: a figure over the kept runs, and contestants side by side. Pure; sizes are in SVG units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10

from benchmarks.declaration import OURS
from benchmarks.report import Row
from benchmarks.table import number

WIDTH = 300
HISTORY_HEIGHT = 156
BAR = 24
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 50, 22
SHOWN = 30
"""Number of runs on a chart, the newest ones."""

STYLE = """
svg { --ink: #1b1f24; --soft: #57606a; --rule: #d8dee4; --paper: #fff; --line: #0a5cb8; --mark: #b42318;
  --good: #1a7f37; --bar: #a8b3bd; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --soft: #9da7b1; --rule: #30363d; --paper: #0d1117;
  --line: #6cb0ff; --mark: #ff8a75; --good: #56d364; --bar: #5b6570; } }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg .name { fill: var(--ink); font-weight: 600; }
svg .value { fill: var(--line); font-size: 15px; font-weight: 600; } svg .bad { fill: var(--mark); }
svg .paper { fill: var(--paper); } .grid { stroke: var(--rule); } .curve { fill: none; stroke: var(--line); }
.target { stroke: var(--good); stroke-dasharray: 4 3; } .spread { stroke: var(--line); stroke-width: 5; opacity: .25; }
.point { fill: var(--line); } .point.bad { fill: var(--mark); }
.whisker { stroke: var(--ink); } .ours { fill: var(--line); } .theirs { fill: var(--bar); }
"""


def history_chart(row: Row) -> str:
    """Draw one figure over the kept runs and this run (the last point), with its spread and its target.

    The axis need not start at zero, so that a change is visible. A distant target is written, not drawn.
    """
    figure, metric = row.figure, row.figure.metric
    values = [*row.past, figure.value][-SHOWN:]
    last = len(values) - 1
    inside = [*values, figure.low, figure.high]
    near = metric.target is not None and max(inside) / 2 <= metric.target <= max(2 * max(inside), 0)
    low, high, step = ticks([*inside, metric.target] if near and metric.target is not None else inside)

    def x(place: int) -> float:
        return WIDTH - RIGHT - 4 - (last - place) * min(24.0, (WIDTH - LEFT - RIGHT - 8) / max(1, last))

    def y(value: float) -> float:
        return HISTORY_HEIGHT - BOTTOM - (value - low) / (high - low) * (HISTORY_HEIGHT - TOP - BOTTOM)

    bad = " bad" if figure.missed or row.worse else ""
    median = f"{number(figure.value)} {metric.unit}"
    about = f"{median}, from {number(figure.low)} to {number(figure.high)}; {len(row.past)} earlier runs"
    parts = [_open(HISTORY_HEIGHT, metric.title, about)]
    parts.append(f'<text class="value{bad}" x="4" y="33">{escape(median)}</text>')
    if metric.target is not None:
        sign = "≥" if metric.better == "higher" else "≤"
        words = f"target {sign} {number(metric.target)}"
        parts.append(f'<text class="{bad.strip()}" x="{WIDTH - 4}" y="33" text-anchor="end">{escape(words)}</text>')
    at = low
    while at <= high + step / 2:
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y(at):.1f}" x2="{WIDTH - RIGHT}" y2="{y(at):.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(at) + 4:.1f}" text-anchor="end">{number(round(at, 9))}</text>')
        at += step
    if near and metric.target is not None:
        level = f"{y(metric.target):.1f}"
        parts.append(f'<line class="target" x1="{LEFT}" y1="{level}" x2="{WIDTH - RIGHT}" y2="{level}"/>')
    parts.append(f'<line class="spread" x1="{x(last):.1f}" y1="{y(figure.low):.1f}" x2="{x(last):.1f}" '
                 f'y2="{y(figure.high):.1f}"/>')  # fmt: skip
    line = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in enumerate(values))
    parts.append(f'<polyline class="curve" points="{line}"/>')
    for place, value in enumerate(values):
        last_one = place == last
        parts.append(f'<circle class="point{bad if last_one else ""}" cx="{x(place):.1f}" cy="{y(value):.1f}" '
                     f'r="{3.5 if last_one else 2}"/>')  # fmt: skip
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HISTORY_HEIGHT - 6}" text-anchor="end">this run</text>')
    if len(values) > 1:
        parts.append(f'<text x="{LEFT}" y="{HISTORY_HEIGHT - 6}">{len(values) - 1} earlier</text>')
    return "\n".join([*parts, "</svg>"])


def bars(question: str, answers: Mapping[str, Row]) -> str:
    """Draw contestants as bars from zero, each labelled with its multiple of ours."""
    unit = next(iter(answers.values())).figure.metric.unit
    most = max(row.figure.high for row in answers.values()) or 1.0
    ours = answers[OURS].figure.value if OURS in answers else 0.0
    height = 28 + BAR * len(answers)
    about = "; ".join(f"{name} {number(row.figure.value)} {unit}" for name, row in answers.items())
    parts = [_open(height, f"{question}, {unit}", about)]
    left, room = 104, WIDTH - 104 - 92
    for place, (name, row) in enumerate(answers.items()):
        top, value = 24 + place * BAR, row.figure.value
        length = max(1.0, room * value / most)
        high = max(length, room * row.figure.high / most)
        times = f" ×{number(value / ours)}" if ours and name != OURS else ""
        kind = "ours" if name == OURS else "theirs"
        parts += [
            f'<text x="{left - 6}" y="{top + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{left}" y="{top + 2}" width="{length:.1f}" height="15" rx="2"/>',
            f'<line class="whisker" x1="{left + max(0.0, room * row.figure.low / most):.1f}" y1="{top + 9.5}" '
            f'x2="{left + high:.1f}" y2="{top + 9.5}"/>',
            f'<text x="{left + high + 5:.1f}" y="{top + 13}">{number(value)}{times}</text>',
        ]
    return "\n".join([*parts, "</svg>"])


def ticks(values: Sequence[float]) -> tuple[float, float, float]:
    """Return rounded ends of an axis around the values, and the step between its three to six grid lines."""
    span = max(max(values) - min(values), abs(max(values)) * 0.02, 1e-9)
    scale = 10 ** floor(log10(span / 3))
    step = next(each * scale for each in (1, 2, 5, 10) if each * scale >= span / 3)
    low = floor(min(values) / step) * step
    high = low
    while high < max(values):
        high += step
    return low, high if high > low else low + step, step


def _open(height: int, title: str, about: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img"><title>{escape(title)}</title><desc>{escape(about)}</desc>'
        f'<text class="name" x="4" y="14">{escape(title)}</text>'
    )
