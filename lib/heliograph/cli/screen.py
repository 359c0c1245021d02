"""The screen of a run: live in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from heliograph.bus.contract.resources import ENDED
from heliograph.cli.cells import size
from heliograph.cli.features.job_columns import JobProgress
from heliograph.cli.output import coloured, paint, printable, say
from heliograph.local.display import State

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

BARS = "▁▂▃▄▅▆▇█"
NOTES = 6
SHOWN_EDGES = 20
_SIGNS: dict[State, tuple[str, str]] = {
    "waiting": ("○", "dim"),
    "training": ("●", "cyan"),
    "uploaded": ("●", "green"),
    "offline": ("✂", "red"),
    "link cut": ("✂", "red"),
}


class Lines:
    """A display that prints each event as a line."""

    def __init__(self) -> None:
        self._progress: JobProgress | None = None
        self._links: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def doing(self, what: str) -> None:
        say(f"{what} …")

    def began(self, title: str, samples: Mapping[str, int]) -> None:
        counts = ", ".join(f"{edge} {number} samples" for edge, number in samples.items())
        say(f"{title}: {counts}" if counts else title)

    def document(self, document: Mapping[str, Any]) -> None:
        if self._progress is None:
            self._progress = JobProgress("job", document["metadata"]["name"], ENDED)
        for line in self._progress.lines(document):
            say(line)

    def uploaded(self, edge: str, round: int, size: int) -> None: ...

    def link(self, edge: str, state: Literal["up", "offline", "cut"], waiting: int = 0) -> None:
        before, self._links[edge] = self._links.get(edge, "up"), state
        if state != before and "cut" not in (state, before):
            say(f"{edge} is {'online again' if state == 'up' else 'offline'}")

    def note(self, line: str, good: bool = True) -> None:
        say(paint(f"{'✓' if good else '✂'} {printable(line)}", "green" if good else "yellow"))


@dataclass
class Edge:
    """A row of the screen."""

    samples: int = 0
    link: Literal["up", "offline", "cut"] = "up"
    waiting: int = 0
    sent: int = 0
    round: int = -1
    """The newest round with an update in the cloud."""


@dataclass
class Screen:
    """A display that redraws itself in place eight times a second; its last state stays on the terminal."""

    title: str = "heliograph"
    edges: dict[str, Edge] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)
    notes: list[tuple[str, bool]] = field(default_factory=list)
    now: str = ""
    _live: Live | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        console = Console(no_color=not coloured(sys.stdout))
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=8)
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._live is not None
        self.now = ""
        self._live.refresh()
        self._live.__exit__(None, None, None)

    def doing(self, what: str) -> None:
        self.now = what

    def began(self, title: str, samples: Mapping[str, int]) -> None:
        self.title, self.now = title, ""
        for edge, number in samples.items():
            self.edges.setdefault(edge, Edge()).samples = number

    def document(self, document: Mapping[str, Any]) -> None:
        self.job = document

    def uploaded(self, edge: str, round: int, size: int) -> None:
        row = self.edges.setdefault(edge, Edge())
        row.round = max(row.round, round)
        row.sent += size

    def link(self, edge: str, state: Literal["up", "offline", "cut"], waiting: int = 0) -> None:
        row = self.edges.get(edge)
        if row is not None and not (state == "offline" and row.link == "cut"):
            row.link, row.waiting = state, waiting

    def note(self, line: str, good: bool = True) -> None:
        self.notes = [*self.notes, (line, good)][-NOTES:]

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows = Table.grid(padding=(0, 2))
        for name, edge in list(self.edges.items())[:SHOWN_EDGES]:
            state = self._state(name, edge)
            sign, style = _SIGNS[state]
            last = f"{edge.waiting} events waiting on disk" if state == "link cut" else _bytes(edge.sent)
            samples = f"{edge.samples} samples" if edge.samples else ""
            rows.add_row(name, Text(f"{sign} {state}", style), Text(samples, justify="right"), last)
        parts: list[RenderableType] = [self._headline(), rows]
        if len(self.edges) > SHOWN_EDGES:
            parts.append(Text(f"and {len(self.edges) - SHOWN_EDGES} more edges", "dim"))
        parts += [Text(f"{'✓' if good else '✂'} {line}", "green" if good else "yellow") for line, good in self.notes]
        parts += [Text(f"✗ {line}", "red") for line in self._troubles()]
        if self.now:
            parts.append(Text(f"{self.now} …", "dim"))
        return Group(*parts)

    def _headline(self) -> RenderableType:
        from rich.text import Text

        status = self.job.get("status", {})
        text = Text(self.title, "bold")
        if self.job:
            done = status.get("phase") not in ("Pending", "Running")
            text.append(f" · round {status.get('round', 0)}/{self.job['spec'].get('rounds', '?')}")
            text.append(f" · {status['phase'].lower()}" if done or status["phase"] == "Pending" else "")
        if curve := curves(self.job):
            name, values = next(iter(curve.items()))
            text.append(f"    {name} {sparkline(values)} {values[-1]:.3f}", "bold cyan")
        return text

    def _state(self, name: str, edge: Edge) -> State:
        if edge.link != "up":
            return "link cut" if edge.link == "cut" else "offline"
        status = self.job.get("status", {})
        if name not in status.get("participants", ()):
            return "uploaded" if edge.round >= 0 and edge.round == status.get("round") else "waiting"
        return "uploaded" if edge.round >= status.get("round", 0) else "training"

    def _troubles(self) -> list[str]:
        conditions = self.job.get("status", {}).get("conditions", ())
        return [each["message"] or each["reason"] for each in conditions if each["status"] == "False"]


def curves(job: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return each metric's values over the rounds: from evaluations if there are any, else from participants."""
    records = job.get("status", {}).get("rounds", ())
    measured = [each["evaluation"] for each in records if each.get("evaluation")]
    found: dict[str, list[float]] = {}
    for metrics in measured or [each.get("metrics", {}) for each in records]:
        for name, value in metrics.items():
            found.setdefault(name, []).append(value)
    return dict(sorted(found.items(), key=lambda item: (item[0] != "accuracy", item[0])))


def sparkline(values: list[float]) -> str:
    """Return a bar for each of the last thirty values, scaled from the least to the greatest."""
    shown = values[-30:]
    low, high = min(shown), max(shown)
    step = (high - low) / (len(BARS) - 1) or 1
    return "".join(BARS[round((value - low) / step)] for value in shown)


def plot(name: str, values: list[float], width: int = 64, height: int = 12) -> str:
    """Plot a metric over the rounds as text."""
    from plotext import figure, uncolorize

    figure.clear()
    figure.plot_size(width, height)
    curve = figure.signal(list(range(1, len(values) + 1)), values, marker="braille")
    figure.draw(curve.lines())
    step = -(-len(values) // 10)
    figure.ruler("x").ticks(list(range(1, len(values) + 1, step)))
    figure.title(f"{name} over {len(values)} rounds")
    return str(uncolorize(str(figure.build())))


def _bytes(number: int) -> str:
    return size(number) if number else ""
