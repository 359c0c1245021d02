"""The report of one run, for every printer: figures with their verdicts, and the JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.declaration import OURS
from benchmarks.figure import Figure
from benchmarks.history import Run, earlier_values
from benchmarks.regression import Judgement, judge, judge_against


@dataclass(frozen=True)
class Row:
    """A figure with its verdict; ``past`` has its values in kept runs on comparable machines, oldest first."""

    figure: Figure
    judgement: Judgement
    past: Sequence[float] = ()

    @property
    def missed(self) -> str:
        """What is said where the figure misses its target."""
        known = self.figure.metric.known
        return f"missed: {self.figure.metric.title}" + (f", as known: {known}" if known else "")

    @property
    def worse(self) -> bool:
        """Return whether the figure is a regression of ours; a peer's figures never are."""
        return self.judgement.verdict == "worse" and self.figure.by == OURS


@dataclass(frozen=True)
class Report:
    """One run with the verdict on each figure."""

    run: Run
    rows: Sequence[Row]
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    compared: str = ""
    """The run given by ``--compare``; empty if the run is compared with the history."""

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.figure.missed]

    @property
    def failing(self) -> bool:
        """Whether a target is missed that can be reached, or a figure has got worse."""
        return bool(self.worse) or any(not row.figure.metric.known for row in self.missed)

    @property
    def worse(self) -> list[Row]:
        return [row for row in self.rows if row.worse]

    def questions(self) -> dict[str, dict[str, Row]]:
        """Return the questions that several contestants answer, with the row of each contestant."""
        rows_by_question: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            if row.figure.metric.question:
                rows_by_question.setdefault(row.figure.metric.question, {})[row.figure.by] = row
        return {question: answers for question, answers in rows_by_question.items() if len(answers) > 1}

    def document(self) -> dict[str, Any]:
        """Return the report for programs: a superset of the history's line."""
        document = self.run.model_dump(mode="json")
        for row in self.rows:
            figure, judgement = row.figure, row.judgement
            document["figures"][figure.id] |= {
                "title": figure.metric.title, "by": figure.by, "group": figure.group, "better": figure.metric.better,
                "target": figure.metric.target, "missed": figure.missed, "verdict": judgement.verdict,
                "baseline": judgement.baseline, "change": judgement.change,
            }  # fmt: skip
        return document | {"compared": self.compared, "skipped": dict(self.skipped), "failed": dict(self.failed)}


def report(
    run: Run, figures: Sequence[Figure], kept: Sequence[Run], baseline: Run | None = None,
    skipped: Mapping[str, str] | None = None, failed: Mapping[str, str] | None = None,
) -> Report:  # fmt: skip
    """Judge each figure of a run by the kept runs of comparable machines, or by the run ``baseline`` if it is given."""
    rows = []
    for figure in figures:
        past, metric = earlier_values(kept, figure, run.machine), figure.metric
        judgement = judge(figure.value, past, metric.better, metric.slack)
        if baseline is not None:
            old = baseline.figures.get(figure.id)
            judgement = Judgement("new")
            if old is not None and old.unit == metric.unit:
                spread = (figure.low, figure.high)
                judgement = judge_against(
                    figure.value, spread, old.value, (old.low, old.high), metric.better, metric.slack
                )
        rows.append(Row(figure, judgement, past))
    return Report(run, rows, skipped or {}, failed or {}, str(baseline) if baseline is not None else "")
