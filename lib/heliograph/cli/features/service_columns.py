"""Joint inference services: their columns, a line for each change between two documents, and their statistics."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from heliograph.cli.cells import Cell, Document, age_of, failing, latency, name_of, percent, some_of, status_of
from heliograph.cli.presentation import Presentation
from heliograph.cli.printing.output import Passing, paint, printable
from heliograph.cli.progress import Progress


class ServiceProgress(Progress):
    """The parts of a service that have been shown. Only deletion ends it: a stopped service may start again."""

    def __init__(self, kind: str, name: str, ended: Collection[str]) -> None:
        super().__init__(kind, name, ended)
        self._generation = 0
        self._numbers = ""

    def _news(self, document: Mapping[str, Any], before: str) -> Iterator[str]:
        status, generation = document.get("status", {}), document["metadata"].get("generation", 0)
        if self.phase != before:
            edges = f" on {len(status.get('edges', ()))} edges" if self.phase == "Running" else ""
            yield paint(f"{self.title} {self.phase}{edges}", "bold")
        if self._generation and generation != self._generation:
            yield f"spec changed: generation {generation}"
        self._generation = generation
        yield from self._changed_conditions(status)
        numbers = numbers_line(status.get("total", {}))
        if numbers != self._numbers:
            self._numbers = numbers
            yield Passing(printable(numbers))


def numbers_line(total: Mapping[str, Any]) -> str:
    """Return ``1204 requests  25.1 % offloaded  agreement 96.0 %  p50 1.2 ms  p99 4.8 ms`` or the like."""
    parts = [
        f"{total.get('requests', 0)} requests",
        f"{percent(total.get('offloadRatio', 0.0))} offloaded",
        *([f"agreement {percent(total['agreement'])}"] if "agreement" in total else []),
        *(f"{name} {latency(total[f'{name}Seconds'])}" for name in ("p50", "p99") if f"{name}Seconds" in total),
        *(f"{total[key]} {key}" for key in ("degraded", "errors") if total.get(key)),
    ]
    return "  ".join(parts)


def _row(document: Document, now: float) -> list[Cell]:
    status = status_of(document)
    total, edges = status.get("total", {}), status.get("edges", {})
    online = [each for each in edges.values() if each.get("trouble") != "offline"]
    lost = [f"{total[key]} {key}" for key in ("degraded", "errors") if total.get(key)]
    return [
        name_of(document),
        status.get("phase", ""),
        f"{len(online)}/{len(edges)}",
        str(total.get("requests", 0)),
        percent(total.get("offloadRatio")).replace(" ", ""),
        percent(total.get("agreement")).replace(" ", ""),
        latency(total.get("p50Seconds")).replace(" ", ""),
        latency(total.get("p99Seconds")).replace(" ", ""),
        age_of(document, now),
        "; ".join(filter(None, [failing(document), ", ".join(lost)])),
    ]


def _wide(document: Document) -> list[Cell]:
    spec = document.get("spec", {})
    models = (spec.get(f"{side}Worker", {}).get("model", {}).get("name", "") for side in ("edge", "cloud"))
    return [*models, some_of(sorted(status_of(document).get("edges", {})))]


SERVICES = Presentation(
    "NAME PHASE EDGES REQUESTS OFFLOAD AGREEMENT P50 P99 AGE NOTE", _row, ServiceProgress,
    wide="EDGE-MODEL CLOUD-MODEL NODES", wide_row=_wide,
)  # fmt: skip
