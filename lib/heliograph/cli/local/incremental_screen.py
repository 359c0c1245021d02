"""What shows the demo of incremental learning: a table that redraws itself in a terminal, or lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from heliograph.cli.printing.output import coloured, paint, printable, say
from heliograph.local.demo.incremental.screen import RoundRow

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

NOTES = 5
"""Newest notes that are shown."""
TITLE = "incremental learning · digits · NumPy"
_SIGNS = {"deployed": ("✓", "green"), "refused": ("✗", "yellow"), "rolled-back": ("↶", "yellow")}
_BAR = 24
_TABLE_HEAD = 2


def cells_of(row: RoundRow) -> list[str]:
    """Return the cells of a round: what served before it, and what serves after it."""
    sign, _ = _SIGNS.get(row.decision, ("✗", "yellow"))
    version = f"v{row.version}" if row.version is not None else "-"
    before, after = row.before, row.after
    pairs = [(before.known, after.known), (before.new, after.new), (before.turned, after.turned)]
    changes = [f"{100 * one:.1f} → {100 * other:.1f}" for one, other in pairs]
    return [str(row.round), row.part, f"{row.labelled} of {row.seen}", *changes, f"{sign} {row.decision} {version}"]


class IncrementalLines:
    """Prints each event as a line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def doing(self, what: str) -> None:
        say(f"{what} …")

    def stream(self, part: str, seen: int, total: int, labelled: int, right: int) -> None: ...

    def step(self, round: int, step: str, waiting: int) -> None: ...

    def serving(self, versions: Mapping[str, str]) -> None: ...

    def ended(self, row: RoundRow) -> None:
        number, part, labelled, known, new, turned, outcome = cells_of(row)
        say(f"round {number} ({part}): {outcome}; {labelled} labelled; 0-4 {known} %, 5-9 {new} %, turned {turned} %")

    def note(self, line: str, good: bool = True) -> None:
        say(paint(f"{'✓' if good else '✂'} {printable(line)}", "green" if good else "yellow"))


class IncrementalScreen:
    """Redraws itself in place four times a second; its last state stays on the terminal."""

    def __init__(self) -> None:
        self._rows: list[RoundRow] = []
        self._notes: list[tuple[str, bool]] = []
        self._now = ""
        self._stream = ("", 0, 1, 0, 0)
        self._step = (0, "waiting", 0)
        self._serving: Mapping[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        console = Console(no_color=not coloured(sys.stdout))
        self._live = Live(get_renderable=lambda: self.render(console), console=console, refresh_per_second=4)
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._live is not None
        self._now = ""
        self._live.refresh()
        self._live.__exit__(None, None, None)

    def doing(self, what: str) -> None:
        self._now = what

    def stream(self, part: str, seen: int, total: int, labelled: int, right: int) -> None:
        self._now, self._stream = "", (part, seen, total, labelled, right)

    def step(self, round: int, step: str, waiting: int) -> None:
        self._step = (round, step, waiting)

    def serving(self, versions: Mapping[str, str]) -> None:
        self._serving = dict(versions)

    def ended(self, row: RoundRow) -> None:
        self._rows.append(row)

    def note(self, line: str, good: bool = True) -> None:
        self._notes = [*self._notes, (line, good)][-NOTES:]

    def render(self, console: Console) -> RenderableType:
        """Return the screen, at most as high as the terminal."""
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(TITLE, "bold", no_wrap=True, overflow="ellipsis"), *self._head()]
        left = console.size.height - 1 - len(parts) - _TABLE_HEAD
        notes = [Text(f"{'✓' if good else '✂'} {printable(line)}", "green" if good else "yellow", no_wrap=True,
                      overflow="ellipsis") for line, good in self._notes[-max(1, left - 2) :]]  # fmt: skip
        room = left - len(notes) - (1 if self._now else 0)
        parts.append(self._table(self._rows[-max(1, room) :]))
        parts += notes
        if self._now:
            parts.append(Text(f"{self._now} …", "dim"))
        return Group(*parts)

    def _head(self) -> list[RenderableType]:
        from rich.text import Text

        part, seen, total, labelled, right = self._stream
        if not seen:
            return []
        full = round(_BAR * seen / total)
        share = f"{labelled} labelled ({labelled / seen:.0%}), {right / seen:.1%} answered right"
        round_, step, waiting = self._step
        serving = ", ".join(f"{edge} {version}" for edge, version in sorted(self._serving.items()))
        lines = [
            f"{'━' * full}{'╌' * (_BAR - full)} {seen} of {total} images · {part} · {share}",
            f"round {round_} {step} · {waiting} samples wait · {serving}",
        ]
        return [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]

    def _table(self, rows: list[RoundRow]) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for title in ("ROUND", "STREAM", "LABELLED", "0-4 %", "5-9 %", "TURNED %", "CANDIDATE"):
            table.add_column(title, no_wrap=True, justify="right" if title == "ROUND" else "left")
        for row in rows:
            cells: list[RenderableType] = [*cells_of(row)]
            cells[-1] = Text(str(cells[-1]), _SIGNS.get(row.decision, ("", "yellow"))[1])
            table.add_row(*cells)
        return table
