"""The history of runs, and the comparison with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks import history
from benchmarks.declaration import Metric
from benchmarks.figure import Figure
from benchmarks.history import HistoryError, Run, append, earlier_values, find, read, run_of
from benchmarks.machine import Machine, revision, this_machine
from benchmarks.report import report

HERE = Machine(cores=2, cpu="CPU", kernel="6.1.0", python="3.11.7")
LAP = Metric("lap", "a lap", "ms", 10)


def figure(value: float, metric: Metric = LAP, by: str = "Heliograph") -> Figure:
    return Figure("b", metric, value, value, value, 3, "group", by)


def kept(value: float, day: int = 0, machine: Machine = HERE, metric: Metric = LAP) -> Run:
    date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return run_of([figure(value, metric)], machine, f"rev{day}", date)


def test_a_kept_run_is_read_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert read(path) == []
    runs = [kept(1, 2), kept(2, 1)]
    for each in runs:
        append(each, path)
    assert len(path.read_text().splitlines()) == 2
    assert read(path) == runs[::-1]  # ordered by date, because merged branches mix the lines


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append(kept(1), path)
    with path.open("a") as file:
        file.write('{"v": 1, "date": "yesterday"}\n')
    with pytest.raises(HistoryError, match=r"history\.jsonl, line 2: date"):
        read(path)
    path.write_text("<<<<<<< HEAD\n")
    with pytest.raises(HistoryError, match="line 1"):
        read(path)


def test_only_runs_on_comparable_machines_count() -> None:
    others = [
        kept(1, 1),
        kept(2, 2, HERE.model_copy(update={"kernel": "6.9.0", "python": "3.11.9"})),
        kept(3, 3, HERE.model_copy(update={"cores": 4})),
        kept(4, 4, HERE.model_copy(update={"cpu": "other"})),
        kept(5, 5, HERE.model_copy(update={"python": "3.12.7"})),
        kept(6, 6, metric=Metric("lap", "a lap", "s")),
    ]
    assert earlier_values(others, figure(1), HERE) == [1, 2]


def test_a_regression_is_marked_and_a_peer_is_not() -> None:
    runs = [kept(1 + day / 100, day) for day in range(5)]
    for by, worse in (("Heliograph", True), ("Peer", False)):
        result = report(kept(3, 9), [figure(3, by=by)], runs)
        assert [row.judgement.verdict for row in result.rows] == ["worse"]
        assert bool(result.worse) is worse


def test_a_run_to_compare_with_is_a_revision_or_a_file(tmp_path: Path) -> None:
    runs = [kept(1, 1), kept(2, 2)]
    assert find("rev1", runs) == runs[0]
    result = report(kept(3, 9), [figure(3)], runs, baseline=runs[0])
    assert (result.rows[0].judgement.baseline, result.rows[0].judgement.verdict) == (1, "worse")
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(result.document()))
    assert find(str(path), []).figures == result.run.figures
    with pytest.raises(HistoryError, match="rev2, rev1"):
        find("nope", runs)


def test_the_machines_description_does_not_identify_its_owner() -> None:
    here = this_machine()
    assert here.cores >= 1
    assert here.comparable(here)
    assert set(here.kernel) <= set("0123456789.") or here.kernel == "unknown"


def test_outside_a_repository_the_revision_is_unknown(tmp_path: Path) -> None:
    assert revision(tmp_path) == "unknown"


def test_the_kept_history_can_be_read() -> None:
    read(history.HISTORY)
