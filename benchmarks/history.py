"""The history of figures: a line of JSON for each run that somebody kept, in the repository, so that it is reviewed
and goes where the code goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.figure import Figure
from benchmarks.machine import Machine

HISTORY = Path(__file__).with_name("history.jsonl")


class HistoryError(Exception):
    """A history, or the run to compare with, that cannot be read; says which line and what is wrong."""


class Kept(BaseModel):
    """A figure of an earlier run."""

    value: float = Field(allow_inf_nan=False)
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    count: int = Field(ge=1)
    unit: str


class Run(BaseModel):
    """What one run found, by ``benchmark/metric``; ``date`` is UTC."""

    model_config = ConfigDict(extra="ignore")

    v: Literal[1] = 1
    date: datetime
    revision: str
    machine: Machine
    figures: dict[str, Kept]

    def __str__(self) -> str:
        return f"{self.revision} of {self.date:%Y-%m-%d %H:%M}"


def run_of(figures: Sequence[Figure], machine: Machine, revision: str, date: datetime | None = None) -> Run:
    """A run as it is kept; now, where no date is given."""
    told = {
        each.id: Kept(value=each.value, low=each.low, high=each.high, count=each.count, unit=each.metric.unit)
        for each in figures
    }
    now = datetime.now(UTC).replace(microsecond=0)
    return Run(date=date or now, revision=revision, machine=machine, figures=told)


def read(path: Path = HISTORY) -> list[Run]:
    """The runs in a file, by their date whatever their order, for branches are merged; none where there is no file.

    Raises HistoryError that names the line which is not a run.
    """
    if not path.exists():
        return []
    runs = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip():
            runs.append(_parse(line, f"{path.name}, line {number}"))
    return sorted(runs, key=lambda run: run.date)


def append(run: Run, path: Path = HISTORY) -> None:
    """Adds a run at the end."""
    with path.open("a") as file:
        file.write(run.model_dump_json() + "\n")


def earlier(runs: Sequence[Run], figure: Figure, machine: Machine) -> list[float]:
    """What a figure was in runs on a machine like this one, oldest first; in the same unit, for a changed one begins
    anew."""
    like = [run.figures[figure.id] for run in runs if figure.id in run.figures and run.machine.like(machine)]
    return [each.value for each in like if each.unit == figure.metric.unit]


def find(name: str, runs: Sequence[Run]) -> Run:
    """The run to compare with: a file such as ``build/bench.json``, or the newest of a git revision, by its beginning.

    Raises HistoryError where there is none.
    """
    path = Path(name)
    if path.is_file():
        return _parse(path.read_text(), name)
    for run in reversed(runs):
        if run.revision.startswith(name):
            return run
    known = ", ".join(dict.fromkeys(run.revision for run in reversed(runs)))
    raise HistoryError(f"--compare {name}: no such file, and no run of that revision; there is {known or 'none'}")


def _parse(text: str, where: str) -> Run:
    try:
        return Run.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise HistoryError(f"{where}: {field or 'the line'}: {first['msg']}") from None
