"""Pair training jobs: their columns, and a line for each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, percent, status_of
from heliograph.cli.presentation import Presentation
from heliograph.cli.printing.output import printable
from heliograph.cli.progress import Progress


def _row(document: Document, now: float) -> list[Cell]:
    spec, status = document.get("spec", {}), status_of(document)
    after = (status.get("figures") or {}).get("after", {})
    return [
        name_of(document),
        status.get("phase", ""),
        status.get("step", ""),
        *(spec.get(side, {}).get("model", {}).get("name", "") for side in ("edge", "cloud")),
        str((status.get("selected") or {}).get("selected", "")),
        f"{after['accuracy']:.3f}" if "accuracy" in after else "",
        percent(after.get("offload")).replace(" ", ""),
        status.get("service", ""),
        age_of(document, now),
        failing(document),
    ]


class PairProgress(Progress):
    """The steps of a job that have been shown."""

    _turn = (0, "")

    def _news(self, document: Mapping[str, Any], before: str) -> Iterator[str]:
        status = document.get("status", {})
        turn = status.get("turn", 0), status.get("step", "")
        if turn != self._turn and turn[1] not in ("", "waiting", "done"):
            attempt = status.get("attempt", 1)
            yield printable(f"{turn[1]}{f', attempt {attempt}' if attempt > 1 else ''}")
        self._turn = turn
        yield from super()._news(document, before)


PAIRS = Presentation("NAME PHASE STEP EDGE CLOUD SELECTED ACCURACY OFFLOAD SERVICE AGE NOTE", _row, PairProgress)
