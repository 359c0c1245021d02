"""The presentation of a kind of resource on the command line; a feature declares one or uses the default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, status_of
from heliograph.cli.progress import Progress


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
    return presentation.columns.split(), [presentation.row(each, now) for each in documents]
