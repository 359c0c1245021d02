"""How the command line shows a kind of resource; each feature declares its own, or takes the defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, status_of
from heliograph.cli.progress import Progress


def default_row(document: Document, now: float) -> list[Cell]:
    """Name, phase, age, and what the conditions say is wrong."""
    return [name_of(document), status_of(document).get("phase", ""), age_of(document, now), failing(document)]


@dataclass(frozen=True)
class Presentation:
    """How a kind of resource is shown.

    Attributes:
        columns: titles of the table of ``get``, a space between two.
        row: the cells of a document below them; its second argument is the time, in seconds since 1970.
        progress: makes the lines of ``watch``.
    """

    columns: str = "NAME PHASE AGE NOTE"
    row: Callable[[Document, float], list[Cell]] = default_row
    progress: type[Progress] = Progress


def presentation_of(plural: str) -> Presentation:
    """The presentation that the feature of this plural declares, else the defaults. Raises Refused where it is
    broken."""
    from heliograph.bus.contract.registry import declared

    found: Presentation | None = declared().features[plural].load("command_line")
    return found if found is not None else Presentation()


def table(plural: str, documents: Sequence[Document], now: float) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows for resources of one kind; ``now``, seconds since 1970, turns times into ages."""
    shown = presentation_of(plural)
    return shown.columns.split(), [shown.row(each, now) for each in documents]
