"""Incremental learning jobs: their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, some_of, status_of
from heliograph.cli.presentation import Presentation
from heliograph.cli.printing.output import Passing, printable
from heliograph.cli.progress import Progress


def _row(document: Document, now: float) -> list[Cell]:
    spec, status = document.get("spec", {}), status_of(document)
    loop = status.get("loop", {})
    metric = status.get("metric")
    edges = [each for _, each in sorted(status.get("edges", {}).items())]  # with the location edge each has its own
    round = max((each.get("round", 0) for each in edges), default=loop.get("round", 0))
    steps = list(dict.fromkeys(each.get("step", "") for each in edges)) or [loop.get("step", "")]
    return [
        name_of(document),
        status.get("phase", ""),
        spec.get("location", ""),
        some_of([each["model"]["name"] for each in spec.get("models", ())]),
        str(round),
        some_of(steps),
        str(status.get("waiting", 0)),
        f"{metric:.3f}" if metric is not None else "",
        age_of(document, now),
        failing(document),
    ]


class LearningProgress(Progress):
    """The steps and rounds of a job that have been shown."""

    _step: tuple[int, str] = (0, "")
    _rounds = 0

    def _news(self, document: Mapping[str, Any], before: str) -> Iterator[str]:
        status = document.get("status", {})
        yield from super()._news(document, before)
        for each in status.get("rounds", ()):
            if each["round"] > self._rounds:
                self._rounds = each["round"]
                yield from map(printable, round_lines(each))
        loop = status.get("loop", {})
        step = loop.get("round", 0), loop.get("step", "")
        if step != self._step and step[1] not in ("", "waiting"):
            yield printable(f"round {step[0]} {step[1]}")
        self._step = step
        yield Passing(printable(f"{status.get('waiting', 0)} samples wait"))


def round_lines(ended: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each model of an ended round."""
    for model, each in ended.get("models", {}).items():
        verdict = each.get("verdict") or {}
        before, after = verdict.get("champion", 0.0), verdict.get("candidate", 0.0)
        figures = f", accuracy {before:.3f} to {after:.3f}" if verdict.get("support") else ""
        version = f" as version {each['version']}" if each.get("version") is not None else ""
        reason = f": {each['reason']}" if each.get("reason") else ""
        yield f"round {ended['round']} {model} {each['decision']}{version}{figures}{reason}"


LEARNING = Presentation("NAME PHASE LOCATION MODELS ROUND STEP WAITING METRIC AGE NOTE", _row, LearningProgress)
