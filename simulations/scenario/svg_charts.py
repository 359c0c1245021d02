"""Charts as inline SVG: lines, bars and spans. Colours are classes, so that the page's style can follow the reader's
light or dark setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from heliograph.inference.tuning.page import axis, digits_of
from heliograph.simulations.scenario.quantities import duration_text
from heliograph.simulations.scenario.timeline import Span

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
ROW = 14
WIDEST = 48
"""Largest width of a bar."""
COLOURS = 6
"""Number of the classes ``c0`` … ``c5``; further series start again with ``c0``."""
MOST_POINTS = 600
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)

STYLE = """
svg { display: block; height: auto; margin: .5rem 0; width: 100%; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--rule); } .line { fill: none; stroke-width: 2; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
.s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); }
.c0 { fill: var(--c0); } .c1 { fill: var(--c1); } .c2 { fill: var(--c2); } .c3 { fill: var(--c3); }
.c4 { fill: var(--c4); } .c5 { fill: var(--c5); } .none { fill: var(--rule); } .lane { fill: var(--lane); }
"""


@dataclass(frozen=True)
class Series:
    """A named line of points, ordered by x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Stack:
    """A named part of each bar, with its colour's class."""

    name: str
    values: Sequence[float]
    colour: str


@dataclass(frozen=True)
class Row:
    """A row of spans, each with its colour's class; later spans cover earlier ones."""

    name: str
    spans: Sequence[tuple[Span, str]]


@dataclass(frozen=True)
class Frame:
    """A chart's title, also read by screen readers, and the labels of its axes."""

    title: str
    x: str
    y: str = ""
    time: bool = False
    """Whether x is time, in seconds."""
    format_y: Callable[[float], str] | None = None


def lines(frame: Frame, series: Sequence[Series]) -> str:
    """Draw a line for each series."""
    points = [point for each in series for point in each.points]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    scale = _Scale(frame, (min(xs), max(xs)), (min(ys), max(ys)))
    drawn = list(scale.grid())
    for number, each in enumerate(series):
        shown = _thinned(each.points)
        colour = number % COLOURS
        path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in shown)
        drawn.append(f'<polyline class="line s{colour}" points="{path}"/>')
        if len(shown) <= 40:
            drawn += [f'<circle class="c{colour}" cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="3"/>'
                      for x, y in shown]  # fmt: skip
    legend = _legend([(each.name, f"c{number % COLOURS}") for number, each in enumerate(series)])
    return _svg(frame, HEIGHT, drawn) + (legend if len(series) > 1 else "")


def bars(frame: Frame, names: Sequence[str], stacks: Sequence[Stack]) -> str:
    """Draw a bar for each name, made of its parts in the stacks."""
    totals = [sum(stack.values[number] for stack in stacks) for number in range(len(names))]
    scale = _Scale(frame, (-0.5, len(names) - 0.5), (0.0, max([*totals, 0.0]) or 1.0), ticks=False)
    width = min(WIDEST, max(0.6, (WIDTH - LEFT - RIGHT) / len(names) * 0.8))
    drawn = list(scale.grid())
    room = max(1, (WIDTH - LEFT - RIGHT) // (7 * max(map(len, names)) + 14))  # number of names that fit side by side
    every = -(-len(names) // room)
    for number, name in enumerate(names):
        base, middle = 0.0, scale.x(number)
        for stack in stacks:
            if value := stack.values[number]:
                top = scale.y(base + value)
                drawn.append(f'<rect class="{stack.colour}" x="{middle - width / 2:.1f}" y="{top:.1f}" '
                             f'width="{width:.1f}" height="{scale.y(base) - top:.1f}"/>')  # fmt: skip
                base += value
        if number % every == 0:
            drawn.append(_tick(middle, HEIGHT, name))
    legend = _legend([(stack.name, stack.colour) for stack in stacks if any(stack.values)])
    return _svg(frame, HEIGHT, drawn) + (legend if len(stacks) > 1 else "")


def spans(frame: Frame, rows: Sequence[Row], end: float, legend: Sequence[tuple[str, str]]) -> str:
    """Draw a row for each name over time, from 0 to ``end``."""
    left = LEFT + 36
    height = TOP + ROW * len(rows) + BOTTOM
    per = (WIDTH - left - RIGHT) / (end or 1.0)
    drawn = []
    for number, row in enumerate(rows):
        top = TOP + ROW * number
        name = row.name if len(row.name) <= 14 else f"{row.name[:13]}…"
        drawn.append(f'<text x="{left - 6}" y="{top + 10}" text-anchor="end">{escape(name)}</text>')
        drawn.append(f'<rect class="lane" x="{left}" y="{top + 1}" width="{end * per:.1f}" height="{ROW - 3}"/>')
        drawn += [f'<rect class="{colour}" x="{left + start * per:.1f}" y="{top + 1}" '
                  f'width="{max(0.8, (min(until, end) - start) * per):.1f}" height="{ROW - 3}"/>'
                  for (start, until), colour in row.spans if start < end]  # fmt: skip
    drawn += [_tick(left + at * per, height, duration_text(at)) for at in _times(0.0, end or 1.0)]
    return _svg(frame, height, [*drawn, _below(frame, height)]) + _legend(legend)


class _Scale:
    """The mapping from values to positions in the chart."""

    def __init__(self, frame: Frame, xs: Span, ys: Span, ticks: bool = True) -> None:
        self._frame = frame
        self._ticks = ticks
        self._left, self._right = xs if xs[0] < xs[1] else (xs[0] - 0.5, xs[0] + 0.5)
        self._low, self._high, self._step = axis(ys)

    def x(self, value: float) -> float:
        return LEFT + (value - self._left) / (self._right - self._left) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self._low) / (self._high - self._low) * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> Iterator[str]:
        show = self._frame.format_y or (lambda value: f"{value:.{digits_of(self._step)}f}")
        for number in range(round((self._high - self._low) / self._step) + 1):
            at = self._low + number * self._step
            yield f'<line class="grid" x1="{LEFT}" y1="{self.y(at):.1f}" x2="{WIDTH - RIGHT}" y2="{self.y(at):.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{self.y(at) + 4:.1f}" text-anchor="end">{escape(show(at))}</text>'
        if self._ticks:
            places = _times if self._frame.time else _numbers
            for at in places(self._left, self._right):
                yield _tick(self.x(at), HEIGHT, duration_text(at) if self._frame.time else f"{at:g}")
        yield _below(self._frame, HEIGHT)
        if self._frame.y:
            middle = (TOP + HEIGHT - BOTTOM) / 2
            yield (f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
                   f"{escape(self._frame.y)}</text>")  # fmt: skip


def _svg(frame: Frame, height: int, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(frame.title)}">\n'
        f"<title>{escape(frame.title)}</title>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


def _tick(x: float, height: int, text: str) -> str:
    return f'<text x="{x:.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{escape(text)}</text>'


def _times(low: float, high: float) -> list[float]:
    """Return at most nine rounded times between two times, in seconds."""
    span = high - low
    step = next((each for each in _STEPS if span / each <= 8), float(-(-span // (8 * _STEPS[-1])) * _STEPS[-1]))
    first = -(-low // step)
    return [(first + number) * step for number in range(10) if (first + number) * step <= high]


def _numbers(low: float, high: float) -> list[float]:
    """Return rounded whole numbers between two numbers."""
    first, last, step = axis([low, high])
    step = max(1.0, step)
    places = [round(first) + number * step for number in range(round((last - first) / step) + 1)]
    return [at for at in places if low <= at <= high]


def _below(frame: Frame, height: int) -> str:
    return f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 8}" text-anchor="middle">{escape(frame.x)}</text>'


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    shown = "".join(
        f'<span><svg viewBox="0 0 10 10"><rect class="{colour}" width="10" height="10"/></svg> {escape(name)}</span>'
        for name, colour in entries[:12]
    )
    more = f"<span>and {len(entries) - 12} more</span>" if len(entries) > 12 else ""
    return f'<p class="legend">{shown}{more}</p>\n'


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(number * step)] for number in range(MOST_POINTS)]
