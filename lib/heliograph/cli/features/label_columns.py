"""Label queues: their columns, and a line for each change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, some_of, status_of
from heliograph.cli.presentation import Presentation
from heliograph.cli.printing.output import Passing, printable
from heliograph.cli.progress import Progress


class QueueProgress(Progress):
    """The parts of a queue that have been shown. Only deletion ends it."""

    def _news(self, document: Mapping[str, Any], before: str) -> Iterator[str]:
        status = document.get("status", {})
        yield from self._changed_conditions(status)
        yield Passing(printable(counts_line(status)))


def counts_line(status: Mapping[str, Any]) -> str:
    """Return ``12 waiting  3 leased  40 labelled  2 conflicts  alpha 0.81`` or the like."""
    parts = [f"{status.get(key, 0)} {key}" for key in ("waiting", "leased", "labelled", "conflicts")]
    return "  ".join([*parts, *([f"alpha {status['alpha']:.2f}"] if "alpha" in status else [])])


def _row(document: Document, now: float) -> list[Cell]:
    spec, status = document.get("spec", {}), status_of(document)
    schema = spec.get("labelSchema", {})
    alpha = status.get("alpha")
    return [
        name_of(document),
        schema.get("type", ""),
        some_of(schema.get("classes", ())),
        str(status.get("waiting", 0)),
        str(status.get("leased", 0)),
        str(status.get("labelled", 0)),
        str(status.get("conflicts", 0)),
        f"{alpha:.3f}" if alpha is not None else "",
        age_of(document, now),
        failing(document),
    ]


LABELS = Presentation("NAME TYPE CLASSES WAITING LEASED LABELLED CONFLICTS ALPHA AGE NOTE", _row, QueueProgress)
