"""The live screen of a run, in a terminal: it fits the terminal's size, and its first lines never scroll away."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from heliograph.cli.cells import size
from heliograph.cli.local.curves import curves, sparkline
from heliograph.cli.printing.output import coloured, printable
from heliograph.local.display import State

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

NOTES = 6
"""Newest notes that are shown where there is room; of fewer lines the newest."""
TROUBLES = 3
TROUBLE_LINES = 2
LEAST_EDGES = 3
"""Edges that are shown even where notes must give way."""
_SIGNS: dict[State, tuple[str, str]] = {
    "waiting": ("○", "dim"),
    "training": ("●", "cyan"),
    "uploaded": ("●", "green"),
    "offline": ("✂", "red"),
    "link cut": ("✂", "red"),
}
_TROUBLED = ("link cut", "offline")


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
    """A display that redraws itself in place eight times a second; its last state stays on the terminal.

    Attributes:
        clock: seconds, never decreasing.
    """

    clock: Callable[[], float]
    title: str = "heliograph"
    edges: dict[str, Edge] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)
    notes: list[tuple[str, bool]] = field(default_factory=list)
    now: str = ""
    _began: float | None = None
    _ended: float | None = None
    _live: Live | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        console = Console(no_color=not coloured(sys.stdout))
        self._live = Live(get_renderable=lambda: self.render(console), console=console, refresh_per_second=8)
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
        self._began = self.clock()
        for edge, number in samples.items():
            self.edges.setdefault(edge, Edge()).samples = number

    def document(self, document: Mapping[str, Any]) -> None:
        self.job = document
        if self._ended is None and self._status.get("phase") not in ("Pending", "Running"):
            self._ended = self.clock()

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

    def printed(self, edge: str, line: str) -> None:
        from rich.text import Text

        if self._live is not None:
            self._live.console.print(Text(f"{edge}: {printable(line)}"))

    def render(self, console: Console) -> RenderableType:
        """Return lines of one terminal row each, at most one fewer than the terminal has."""
        from rich.console import Group
        from rich.text import Text

        width, room = console.size.width, console.size.height - 1
        head = self._head(width)
        tail = [line for text in self._troubles()[:TROUBLES]
                for line in _wrapped(console, f"✗ {text}", "red", TROUBLE_LINES)]  # fmt: skip
        if self.now:
            tail.append(Text(f"{self.now} …", "dim"))
        notes = [Text(f"{'✓' if good else '✂'} {printable(line)}", "green" if good else "yellow")
                 for line, good in self.notes]  # fmt: skip
        left = max(0, room - len(head) - len(tail))
        kept = max(0, left - min(len(self.edges) + 1, LEAST_EDGES))
        notes = notes[-kept:] if kept else []
        lines = [*head, *self._edges(left - len(notes)), *notes, *tail][:room]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
            line.truncate(width, overflow="ellipsis")
        return Group(*lines)

    @property
    def _status(self) -> Mapping[str, Any]:
        status: Mapping[str, Any] = self.job.get("status", {})
        return status

    def _head(self, width: int) -> list[Text]:
        """Return the title with the round, and a line of progress, time and the first metric."""
        from rich.text import Text

        text = Text(self.title, "bold")
        if not self.job:
            return [text]
        phase, closed = self._status["phase"], len(self._status.get("rounds", ()))
        text.append(f" · round {self._status.get('round', 0)}/{self.job['spec'].get('rounds', '?')}")
        text.append("" if phase == "Running" else f" · {phase.lower()}")
        if curve := curves(self.job):
            name, values = next(iter(curve.items()))
            bars = max(8, min(30, width - len(text.plain) - len(name) - 14))
            text.append(f"    {name} {sparkline(values, bars)} {values[-1]:.3f}", "bold cyan")
        return [text, self._progress(closed and int(self._status.get("round", 0)), width)]

    def _progress(self, round: int, width: int) -> Text:
        from rich.text import Text

        total = self.job["spec"].get("rounds", 0) or 1
        began = self._began if self._began is not None else self.clock()
        elapsed = (self._ended if self._ended is not None else self.clock()) - began
        done = total if self._status["phase"] == "Succeeded" else max(0, round - 1)
        if self._ended is None and done:
            words = f"{duration(elapsed)}, about {duration(elapsed / done * (total - done))} left"
        else:
            words = duration(elapsed)
        cells = max(10, min(40, width - len(words) - 2))
        full = min(cells, cells * done // total)
        return Text.assemble(("━" * full, "cyan"), ("─" * (cells - full), "dim"), f" {words}")

    def _edges(self, room: int) -> list[Text]:
        """Return a line for each edge if all fit; otherwise the troubled ones first, and a line about the others."""
        from rich.text import Text

        states = {name: self._state(name, edge) for name, edge in self.edges.items()}
        names = list(states)
        if len(names) > room:
            names = sorted(names, key=lambda name: not self._is_troubled(name, states[name]))[: max(0, room - 1)]
        widest = max(map(len, names), default=0)
        lines = [self._row(name, states[name], widest) for name in names]
        rest = Counter(state for name, state in states.items() if name not in set(names))
        if rest and room > 0:
            counts = ", ".join(f"{count} {state}" for state, count in rest.most_common())
            lines.append(Text(f"and {sum(rest.values())} more edges: {counts}", "dim"))
        return lines

    def _row(self, name: str, state: State, widest: int) -> Text:
        from rich.text import Text

        edge = self.edges[name]
        sign, style = _SIGNS[state]
        last = f"{edge.waiting} events waiting on disk" if state == "link cut" else _bytes(edge.sent)
        if name in self._uncounted:
            last = f"never counted  {last}"
        samples = f"{edge.samples} samples" if edge.samples else ""
        shown = f"{sign} {state}".ljust(12)
        return Text.assemble(name.ljust(widest + 2), (shown, style), samples.rjust(15), f"  {last}")

    def _state(self, name: str, edge: Edge) -> State:
        if edge.link != "up":
            return "link cut" if edge.link == "cut" else "offline"
        if name not in self._status.get("participants", ()):
            return "uploaded" if edge.round >= 0 and edge.round == self._status.get("round") else "waiting"
        return "uploaded" if edge.round >= self._status.get("round", 0) else "training"

    def _is_troubled(self, name: str, state: State) -> bool:
        return state in _TROUBLED or name in self._uncounted

    @property
    def _uncounted(self) -> Sequence[str]:
        """The edges that the job's status names, once others have been counted twice."""
        found: Sequence[str] = self._status.get("uncounted") or ()
        return found if len(self._status.get("rounds", ())) >= 2 else ()

    def _troubles(self) -> list[str]:
        conditions = self._status.get("conditions", ())
        return [each["message"] or each["reason"] for each in conditions if each["status"] == "False"]


def duration(seconds: float) -> str:
    """Return ``0:07``, ``12:30`` or ``3:05:00``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _wrapped(console: Console, text: str, style: str, most: int) -> list[Text]:
    from rich.text import Text

    lines = list(Text(printable(text), style).wrap(console, console.size.width))
    if len(lines) > most:
        lines[most - 1].append(" …")
    return lines[:most]


def _bytes(number: int) -> str:
    return size(number) if number else ""
