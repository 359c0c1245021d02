"""Federated tasks: the columns of a job, and a line for each change between two of its documents."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from heliograph.cli.cells import Cell, Document, age_of, failing, name_of, short_metrics, some_of, status_of
from heliograph.cli.presentation import Presentation
from heliograph.cli.printing.output import paint, printable
from heliograph.cli.progress import Progress

NAMED = 16


class JobProgress(Progress):
    """The parts of a job that have been shown."""

    def __init__(self, kind: str, name: str, ended: Collection[str]) -> None:
        super().__init__(kind, name, ended)
        self._round = 0
        self._measured = 0
        self._counts = {"refused": 0, "late": 0}

    def _news(self, document: Mapping[str, Any], before: str) -> Iterator[str]:
        status = document.get("status", {})
        if self.phase != before and not self.ended:
            edges = ", ".join(sorted(status.get("assignments", {}).values())[:NAMED])
            yield paint(f"{self.title} {self.phase}{f': {edges}' if self.phase == 'Running' else ''}", "bold")
        yield from self._changed_conditions(status)
        news = [*self._closed_rounds(document), *self._not_counted("refused", status),
                *self._not_counted("late", status)]  # fmt: skip
        yield from (line for _, line in sorted(news, key=lambda each: each[0]))
        if self.ended:
            yield self._end(status)

    def _closed_rounds(self, document: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
        status = document.get("status", {})
        total = document.get("spec", {}).get("rounds", "?")
        records = status.get("rounds", ())
        for record in records:
            number, evaluation = record["round"], record.get("evaluation")
            if number <= self._round:
                if evaluation and number > self._measured:
                    self._measured = number
                    yield number, f"round {number} evaluated: {_metrics(evaluation)}"
                continue
            if record is records[-1] and not self.ended and not evaluation and _is_measured(document, number):
                return  # wait for its evaluation, which belongs on the same line
            if evaluation:
                self._measured = number
            self._round = number
            yield number, _round_line(record, total)

    def _not_counted(self, kind: str, status: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
        count, notes = status.get(f"{kind}Count", 0), status.get(kind, ())
        fresh = count - self._counts[kind]
        self._counts[kind] = count
        for each in notes[-fresh:] if fresh > 0 else ():
            line = f"{kind}: {each['edge']}, round {each['round']}: {each['reason']}"
            yield each["round"], paint(printable(line), "yellow")

    def _end(self, status: Mapping[str, Any]) -> str:
        style = {"Succeeded": "green", "Failed": "red"}.get(self.phase, "yellow")
        complete = [each for each in status.get("conditions", ()) if each["type"] == "Complete"]
        why = "".join(f": {each['message']}" for each in complete if each.get("message"))
        lost = "".join(f", {count} {kind}" for kind, count in self._counts.items() if count)
        if unnoted := status.get("unnotedCount"):
            lost += f", {unnoted} further not counted"
        return paint(printable(f"{self.title} {self.phase}{why}{lost}"), style)


def _round_line(record: Mapping[str, Any], total: object) -> str:
    width = len(str(total))
    closed = f"  closed by {record['reason']}" if record.get("reason", "complete") != "complete" else ""
    metrics = _metrics(record.get("evaluation") or record.get("metrics"))
    return printable(
        f"round {record['round']:>{width}}/{total}  {record['counted']} counted  "
        f"{metrics + '  ' if metrics else ''}{record.get('durationSeconds', 0.0):.2f} s{closed}"
    )


def _parameters(worker: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = worker.get("workerSpec", {}).get("parameters", [])
    return found


def _metrics(metrics: Mapping[str, Any] | None) -> str:
    return " ".join(short_metrics(metrics))


def _is_measured(document: Mapping[str, Any], round: int) -> bool:
    """Return whether the global model of a round will be evaluated."""
    spec = document.get("spec", {})
    if "evaluationWorker" not in spec:
        return False
    trained = [found for worker in spec.get("trainingWorkers", ()) if (found := _parameters(worker))]
    every = 1
    for parameter in [*_parameters(spec.get("aggregationWorker", {})), *(trained[0] if trained else ())]:
        if parameter["key"] == "rounds_between_validations" and isinstance(parameter.get("value"), int):
            every = max(1, parameter["value"])
    return bool(round % every == 0 or round == spec.get("rounds"))


def _row(document: Document, now: float) -> list[Cell]:
    spec, status = document.get("spec", {}), status_of(document)
    rounds = status.get("rounds") or [{}]
    lost = [f"{status[key]} {word}" for key, word in (("refusedCount", "refused"), ("lateCount", "late"))
            if status.get(key)]  # fmt: skip
    return [
        name_of(document),
        status.get("phase", ""),
        f"{status.get('round', 0)}/{spec.get('rounds', '?')}",
        str(len(status.get("assignments", ()))),
        short_metrics(status.get("evaluation") or rounds[-1].get("evaluation") or rounds[-1].get("metrics")),
        age_of(document, now),
        "; ".join(filter(None, [failing(document), ", ".join(lost)])),
    ]


def _best_of(status: Document) -> str:
    """Return the best model of a job: its value, and the round of it."""
    best = status.get("best")
    return f"{best['metric']} {best['value']:.4g} (round {best['round']})" if best else ""


def _wide(document: Document) -> list[Cell]:
    aggregation = document.get("spec", {}).get("aggregationWorker", {})
    algorithm = aggregation.get("workerSpec", {}).get("aggregationAlgorithm", "")
    return [aggregation.get("model", {}).get("name", ""), algorithm, _best_of(status_of(document)),
            some_of(sorted(status_of(document).get("assignments", {}).values()))]  # fmt: skip


JOBS = Presentation(
    "NAME PHASE ROUND EDGES METRICS AGE NOTE", _row, JobProgress, wide="MODEL ALGORITHM BEST WORKERS", wide_row=_wide
)
