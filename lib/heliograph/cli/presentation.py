"""The presentation of a kind of resource on the command line; a feature declares one or uses the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from heliograph.cli.cells import Cell, Document, age_of, failing, labels_of, name_of, status_of
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
        wide: titles of the columns that ``-o wide`` adds; every kind has PROJECT, CREATED-BY and GENERATION behind
            them.
        wide_row: function from a document to their cells.
    """

    columns: str = "NAME PHASE AGE NOTE"
    row: Callable[[Document, float], list[Cell]] = default_row
    progress: type[Progress] = Progress
    wide: str = ""
    wide_row: Callable[[Document], list[Cell]] = lambda document: []


def presentation_of(plural: str) -> Presentation:
    """Return the presentation that the plural's feature declares, or the default. Raise Refused if it is broken."""
    from heliograph.bus.contract.registry import declared

    found: Presentation | None = declared().features[plural].load("command_line")
    return found if found is not None else Presentation()


@dataclass(frozen=True)
class Columns:
    """The columns of a table of resources: a presentation's own, and those that options add."""

    wide: bool = False
    labels: bool = False

    def table(self, plural: str, documents: Sequence[Document], now: float) -> tuple[list[str], list[list[Cell]]]:
        """Return columns and rows for resources of one kind; ``now``, in seconds since 1970, turns times into ages."""
        presentation = presentation_of(plural)
        columns = presentation.columns.split()
        if self.wide:
            columns += [*presentation.wide.split(), *_METADATA]
        if self.labels:
            columns.append("LABELS")
        return columns, [self._row(presentation, each, now, len(columns)) for each in documents]

    def _row(self, presentation: Presentation, document: Document, now: float, count: int) -> list[Cell]:
        """Return a document's cells; of one that is not of its kind's shape, its name and that it is unreadable."""
        try:
            row = [*presentation.row(document, now)]
            metadata = document["metadata"]
            if self.wide:
                row += [*presentation.wide_row(document), metadata.get("namespace", ""), metadata.get("createdBy", ""),
                        str(metadata.get("generation", ""))]  # fmt: skip
            if self.labels:
                row.append([f"{key}={value}" for key, value in labels_of(document).items()])
            return row
        except UNREADABLE as error:
            found = document.get("metadata")
            name = found.get("name", "?") if isinstance(found, Mapping) else "?"
            return [shorten(str(name)), *[""] * (count - 2), f"unreadable: {type(error).__name__}"]


_METADATA = ("PROJECT", "CREATED-BY", "GENERATION")


def table(plural: str, documents: Sequence[Document], now: float) -> tuple[list[str], list[list[Cell]]]:
    """Return the columns and rows of a table without options; see ``Columns.table``."""
    return Columns().table(plural, documents, now)
