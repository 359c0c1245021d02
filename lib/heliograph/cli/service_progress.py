"""What has changed from one document of a joint inference service to the next: a line each, and its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.cli.output import Passing, paint, printable
from heliograph.cli.progress import Progress
from heliograph.cli.tables import latency, percent


class ServiceProgress(Progress):
    """What of a service has been told. It has no end but its deletion: what was stopped may be started again."""

    kind = "service"

    def __init__(self, name: str) -> None:
        super().__init__(name)
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
    """``1204 requests  25.1 % offloaded  agreement 96.0 %  p50 1.2 ms  p99 4.8 ms``."""
    parts = [
        f"{total.get('requests', 0)} requests",
        f"{percent(total.get('offloadRatio', 0.0))} offloaded",
        *([f"agreement {percent(total['agreement'])}"] if "agreement" in total else []),
        *(f"{name} {latency(total[f'{name}Seconds'])}" for name in ("p50", "p99") if f"{name}Seconds" in total),
        *(f"{total[key]} {key}" for key in ("degraded", "errors") if total.get(key)),
    ]
    return "  ".join(parts)
