"""What one run is told as, whoever prints it: figures with what they are held against, and the JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.declaration import OURS
from benchmarks.figure import Figure
from benchmarks.history import Run, earlier
from benchmarks.regression import Judgement, judge, judge_against


@dataclass(frozen=True)
class Row:
    """A figure and how it stands; ``past`` is what it was in kept runs on this machine, oldest first."""

    figure: Figure
    judgement: Judgement
    past: Sequence[float] = ()

    @property
    def worse(self) -> bool:
        """A regression of ours. What becomes of a peer is not ours to fail for."""
        return self.judgement.verdict == "worse" and self.figure.by == OURS


@dataclass(frozen=True)
class Report:
    """One run, judged."""

    run: Run
    rows: Sequence[Row]
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    compared: str = ""
    """The run it was held against, where one was asked for; otherwise the history."""

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.figure.missed]

    @property
    def worse(self) -> list[Row]:
        return [row for row in self.rows if row.worse]

    def questions(self) -> dict[str, dict[str, Row]]:
        """What several contestants answer: for each question the row of each of them."""
        asked: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            if row.figure.metric.question:
                asked.setdefault(row.figure.metric.question, {})[row.figure.by] = row
        return {question: answers for question, answers in asked.items() if len(answers) > 1}

    def document(self) -> dict[str, Any]:
        """For programs: a superset of the line that the history keeps."""
        told = self.run.model_dump(mode="json")
        for row in self.rows:
            figure, judgement = row.figure, row.judgement
            told["figures"][figure.id] |= {
                "title": figure.metric.title, "by": figure.by, "group": figure.group, "better": figure.metric.better,
                "target": figure.metric.target, "missed": figure.missed, "verdict": judgement.verdict,
                "baseline": judgement.baseline, "change": judgement.change,
            }  # fmt: skip
        return told | {"compared": self.compared, "skipped": dict(self.skipped), "failed": dict(self.failed)}


def report(
    run: Run, figures: Sequence[Figure], kept: Sequence[Run], then: Run | None = None,
    skipped: Mapping[str, str] | None = None, failed: Mapping[str, str] | None = None,
) -> Report:  # fmt: skip
    """Judges each figure of a run by the kept ones of machines like its own, or by the one run ``then``."""
    rows = []
    for figure in figures:
        past, metric = earlier(kept, figure, run.machine), figure.metric
        judgement = judge(figure.value, past, metric.better, metric.slack)
        if then is not None:
            old = then.figures.get(figure.id)
            judgement = Judgement("new")
            if old is not None and old.unit == metric.unit:
                spread = (figure.low, figure.high)
                judgement = judge_against(
                    figure.value, spread, old.value, (old.low, old.high), metric.better, metric.slack
                )
        rows.append(Row(figure, judgement, past))
    return Report(run, rows, skipped or {}, failed or {}, str(then) if then is not None else "")
