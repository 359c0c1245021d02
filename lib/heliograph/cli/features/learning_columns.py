"""Incremental learning jobs: their columns."""

from __future__ import annotations

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, some_of, status_of
from heliograph.cli.presentation import Presentation


def _row(document: Document, now: float) -> list[Cell]:
    spec, status = document.get("spec", {}), status_of(document)
    loop = status.get("loop", {})
    metric = status.get("metric")
    return [
        name_of(document),
        status.get("phase", ""),
        spec.get("location", ""),
        some_of([each["model"]["name"] for each in spec.get("models", ())]),
        str(loop.get("round", 0)),
        loop.get("step", ""),
        str(status.get("waiting", 0)),
        f"{metric:.3f}" if metric is not None else "",
        age_of(document, now),
        failing(document),
    ]


LEARNING = Presentation("NAME PHASE LOCATION MODELS ROUND STEP WAITING METRIC AGE NOTE", _row)
