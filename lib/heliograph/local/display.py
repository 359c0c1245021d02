"""What a run on this machine tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

State = Literal["waiting", "training", "uploaded", "offline", "link cut"]


class Display(Protocol):
    """Shows a run. Nothing here blocks or fails: a screen must not be able to disturb what it shows."""

    def doing(self, what: str) -> None:
        """What happens before there is a job to show."""

    def began(self, title: str, samples: Mapping[str, int]) -> None:
        """A job begins on these edges; with how many samples each, where that is known."""

    def document(self, document: Mapping[str, Any]) -> None:
        """The job's newest document."""

    def uploaded(self, edge: str, round: int, size: int) -> None:
        """An edge's update of a round is in the cloud, of so many bytes."""

    def link(self, edge: str, state: Literal["up", "offline", "cut"], waiting: int = 0) -> None:
        """An edge's link to the cloud; with ``waiting`` events in its journal."""

    def note(self, line: str, good: bool = True) -> None:
        """Something worth a line of its own."""
