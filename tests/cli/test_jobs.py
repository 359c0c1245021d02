"""``heliograph jobs``: what is asked about a job, as a sentence and a table."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.job_requests import (
    DeployedVersion,
    EdgeDataset,
    EdgeTraining,
    JobDatasets,
    JobDeployment,
    JobEvaluation,
    JobModels,
    JobTraining,
    RoundEvaluation,
)
from heliograph.bus.contract.resources import DatasetIndex, ModelVersion, WeightsRef
from heliograph.cli.jobs.job_tables import TABLES
from heliograph.cli.main import main

INDEX = DatasetIndex(name="d", samples=1200, digest="ab" * 32, format="npz")
VERSION = ModelVersion(version=3, weights=WeightsRef(digest="cd" * 32, size=4), round=7, metrics={"accuracy": 0.91234})
TOLD: list[tuple[str, Any, str, list[list[str]]]] = [
    (
        "dataset",
        JobDatasets(name="j", edge_count=1, samples=1200, evaluation=EdgeDataset(edge="cloud", dataset="t"), edges=[
            EdgeDataset(edge="edge-1", worker="w", dataset="d", index=INDEX, online=True)]),
        "1,200 samples on 1 edge",
        [["edge-1", "train", "d", "1200", "npz", "abababababab", ""],
         ["cloud", "evaluate", "t", "", "", "", "offline"]],
    ),
    (
        "models",
        JobModels(name="j", model="m", digest="ef" * 32, round=8, unfinished=[VERSION], personal_count=2),
        "model m; 2 edges have one of their own",
        [["3", "unfinished", "7", "cdcdcdcdcdcd", "accuracy 0.9123"], ["", "now", "8", "efefefefefef", ""]],
    ),
    (
        "training",
        JobTraining(name="j", phase="Running", step="training", round=2, rounds=9, participants=1, late_count=3, edges=[
            EdgeTraining(edge="edge-1", worker="w", online=True, participates=True, state="running", restarts=1),
            EdgeTraining(edge="edge-2", worker="v", online=True, left=True), EdgeTraining(edge="edge-3")]),
        "Running, round 2 of 9; 1 in this round; 3 late",
        [["edge-1", "w", "takes part", "running", "1", ""], ["edge-2", "v", "left", "", "", ""],
         ["edge-3", "", "offline", "", "", ""]],
    ),
    (
        "evaluation",
        JobEvaluation(name="j", data=EdgeDataset(edge="cloud", dataset="t"), state="failed", detail="boom",
                      rounds=[RoundEvaluation(round=1, model="ab" * 32, metrics={"loss": 2})]),
        "evaluated on t of cloud; failed: boom",
        [["1", "abababababab", "loss 2"]],
    ),
    ("evaluation", JobEvaluation(name="j"), "no evaluation: the job names no evaluation worker", []),
    (
        "deployment",
        JobDeployment(name="j", model="m", versions=[
            DeployedVersion(version=1, digest="ab" * 32, aliases=["champion"], everywhere=True),
            DeployedVersion(version=2, digest="cd" * 32, aliases=["north"], edges=["edge-1"]),
            DeployedVersion(version=3, digest="ef" * 32)]),
        "model m",
        [["1", "abababababab", "champion", "every edge that is bound to no other"],
         ["2", "cdcdcdcdcdcd", "north", "edge-1"], ["3", "efefefefefef", "", "nowhere"]],
    ),
    ("deployment", JobDeployment(name="j", model="m"), "the job has made no version of model m yet", []),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "answer", "summary", "rows"), TOLD)
def test_an_answer_is_a_sentence_and_a_table(verb: str, answer: Any, summary: str, rows: list[list[str]]) -> None:
    table = TABLES[verb](answer.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert (table.summary, [*table.rows]) == (summary, rows)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_name_that_is_none_is_misuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["heliograph", "jobs", "training", "No Name"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "NAME: expected a DNS label" in capsys.readouterr().err
