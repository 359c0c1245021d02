"""The presentation of a kind of resource on the command line; a feature declares one or uses the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, status_of
from heliograph.cli.progress import Progress
from heliograph.core.errors import shorten

UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError)
"""Errors of a presentation on a document of another shape: whoever reaches an MQTT broker may publish a status."""


def default_row(document: Document, now: float) -> list[Cell]:
    """Return name, phase, age, and the messages of false conditions."""
    return [name_of(document), status_of(document).get("phase", ""), age_of(document, now), failing(document)]


@dataclass(frozen=True)
class Presentation:
    """The presentation of a kind of resource.

    Attributes:
        columns: titles of the table of ``get``, separated by spaces.
        row: function from a document and the time, in seconds since 1970, to its cells.
        progress: class that makes the lines of ``watch``.
    """

    columns: str = "NAME PHASE AGE NOTE"
    row: Callable[[Document, float], list[Cell]] = default_row
    progress: type[Progress] = Progress


def presentation_of(plural: str) -> Presentation:
    """Return the presentation that the plural's feature declares, or the default. Raise Refused if it is broken."""
    from heliograph.bus.contract.registry import declared

    found: Presentation | None = declared().features[plural].load("command_line")
    return found if found is not None else Presentation()


def table(plural: str, documents: Sequence[Document], now: float) -> tuple[list[str], list[list[Cell]]]:
    """Return columns and rows for resources of one kind; ``now``, in seconds since 1970, turns times into ages."""
    presentation = presentation_of(plural)
    columns = presentation.columns.split()
    return columns, [_row(presentation, each, now, len(columns)) for each in documents]


def _row(presentation: Presentation, document: Document, now: float, count: int) -> list[Cell]:
    """Return a document's cells; of one that is not of its kind's shape, its name and that it is unreadable."""
    try:
        return presentation.row(document, now)
    except UNREADABLE as error:
        metadata = document.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
        return [shorten(str(name)), *[""] * (count - 2), f"unreadable: {type(error).__name__}"]
