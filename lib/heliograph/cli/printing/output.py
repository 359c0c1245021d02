"""Output of the commands: lines, flushed at once, and tables, framed for people and plain for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from heliograph.core.text import harmless, print_line

STYLES = {
    "Running": "cyan",
    "Succeeded": "green",
    "Failed": "red",
    "Stopped": "yellow",
    "Pending": "yellow",
    "online": "green",
    "offline": "red",
}
"""Style of a table's cell by its text."""

LEAST_WIDTH = 7
"""Characters of a column, at least, where a frame must break words to fit the terminal."""

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def coloured(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str) -> str:
    """Return ``text`` in a style if stdout shows colours, and unchanged otherwise."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and coloured(sys.stdout) else text


def say(line: str) -> None:
    """Print a line on stdout and flush it, so that a reader of a pipe sees it at once."""
    print_line(harmless(line, coloured=True))


class Passing(str):
    """A line that the next one replaces in a terminal."""


class Ticker:
    """A printer of lines that replaces a passing line, in a terminal, by the next one."""

    def __init__(self) -> None:
        self._passing = False

    def __call__(self, line: str) -> None:
        clear = "\r\x1b[K" if self._passing else ""
        self._passing = isinstance(line, Passing) and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        if self._passing:
            line = line[: os.get_terminal_size(sys.stdout.fileno()).columns - 1]  # a wrapped line cannot be cleared
        print(f"{clear}{line}", end="" if self._passing else "\n", flush=True)


def printable(text: object) -> str:
    """Return ``text`` on one line, without control characters of a terminal."""
    return "".join(each if each.isprintable() else " " for each in str(text))


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str | list[str]]], headers: bool = True, framed: bool = True
) -> None:
    """Print a table: framed in a terminal, without columns that are empty; otherwise one line for each row, two spaces
    apart, ``-`` for empty cells.

    A list of words in a cell may break between them in a frame; otherwise commas without a space join them.

    Args:
        headers: whether it has a line with the columns' names; without one it has no frame.
        framed: False for a table of many columns, which no terminal has room for.
    """
    between, show = (", ", _framed) if sys.stdout.isatty() and headers and framed else (",", _plain)
    texts = ((between.join(map(str, cell)) if isinstance(cell, list) else cell for cell in row) for row in rows)
    cells = [[printable(text) for text in row] for row in texts]
    say(show(columns if headers else [], cells))


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [*([list(columns)] if columns else []), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _framed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    console = Console(no_color=not coloured(sys.stdout))
    shown = [number for number, _ in enumerate(columns) if number == 0 or any(row[number] for row in rows)]
    cells = [[row[number] for row in (columns, *rows)] for number in shown]
    for number, width in zip(shown, _widths(cells, console.size.width - 2 * (len(shown) - 1)), strict=True):
        table.add_column(columns[number], no_wrap=number == 0, overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(row[number], style=STYLES.get(row[number], "")) for number in shown))
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the columns' widths: whole cells where there is room, else whole words. Where not even these fit, the
    widest column but the first, which has the names, gives way."""
    widths = [max(len(word) for cell in cells for word in cell.split() or [""]) for cells in columns]
    while sum(widths) > room and max(widths[1:], default=0) > LEAST_WIDTH:
        widths[widths.index(max(widths[1:]), 1)] -= 1
    for place, cells in enumerate(columns):
        widths[place] += max(0, min(max(map(len, cells)) - widths[place], room - sum(widths)))
    return widths
