"""The interface between a run on this machine and the screen that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

State = Literal["waiting", "training", "uploaded", "offline", "link cut"]


class Display(Protocol):
    """A view of a run. No method blocks or raises: a screen must not disturb the run it shows."""

    def doing(self, what: str) -> None:
        """Show a step before the job begins."""

    def began(self, title: str, samples: Mapping[str, int]) -> None:
        """Show that a job begins, with the number of samples of each edge (0 where unknown)."""

    def document(self, document: Mapping[str, Any]) -> None:
        """Show the job's newest document."""

    def uploaded(self, edge: str, round: int, size: int) -> None:
        """Show that an edge's update of a round, of ``size`` bytes, is in the cloud."""

    def link(self, edge: str, state: Literal["up", "offline", "cut"], waiting: int = 0) -> None:
        """Show the state of an edge's link to the cloud, with ``waiting`` events in its journal."""

    def note(self, line: str, good: bool = True) -> None:
        """Show a line of its own, for a good or a bad event."""

    def printed(self, edge: str, line: str) -> None:
        """Show a line that a worker of an edge has printed."""
