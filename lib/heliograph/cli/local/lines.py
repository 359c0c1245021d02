"""The lines of a run, where its output is no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from heliograph.bus.contract.resources import ENDED
from heliograph.cli.features.job_columns import JobProgress
from heliograph.cli.printing.output import paint, printable, say

NAMED = 20
"""Edges whose samples are listed."""


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
        counts = ", ".join(f"{edge} {number} samples" for edge, number in [*samples.items()][:NAMED])
        more = f" and {len(samples) - NAMED} more edges" if len(samples) > NAMED else ""
        say(f"{title}: {counts}{more}" if counts else title)

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

    def printed(self, edge: str, line: str) -> None:
        say(f"{edge}: {printable(line)}")
