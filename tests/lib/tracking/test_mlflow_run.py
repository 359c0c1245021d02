"""Runs of MLflow: one for a job, found again, without a value twice wherever a write broke off."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heliograph.core.errors import HeliographError, Unreachable
from heliograph.tracking.mlflow_run import MlflowRun
from heliograph.tracking.run_writer import JobFacts

JOB = JobFacts("digits", "0123456789abcdef", "model", {"algorithm": "FedAvg", "training.lr (first)": "0.1"})
ROUND = {"train/loss": 0.5, "edge/a/counted": 1.0, "round/counted": 2.0}


@pytest.fixture
def mlflow(framework: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return framework("mlflow")


def steps(mlflow: Any, uri: str, name: str) -> list[tuple[int, float]]:
    client = mlflow.MlflowClient(uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "model"]
    (run,) = client.search_runs([experiment.experiment_id])
    return [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]


def test_another_process_goes_on_with_the_run(mlflow: Any, tmp_path: Path) -> None:
    uri = str(tmp_path / "runs")
    first = MlflowRun(uri)
    first.require()
    assert first.open(JOB).rounds == set()
    first.write(1, 10.0, ROUND)
    first.write(1, 10.5, {"test/accuracy": 0.25})
    first.close("Succeeded")
    second = MlflowRun(uri)
    found = second.open(JOB)
    assert (found.rounds, found.sums["edge/a/counted"]) == ({1}, 1)
    second.write(1, 11.0, {"test/accuracy": 0.25})
    assert steps(mlflow, uri, "test/accuracy") == [(1, 0.25)]
    second.write(2, 11.0, ROUND | {"edge/a/counted": 2.0})
    assert steps(mlflow, uri, "edge/a/counted") == [(1, 1.0), (2, 2.0)]
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("model").experiment_id])
    assert (run.info.status, run.info.run_name) == ("RUNNING", "digits")
    assert run.data.params == {"algorithm": "FedAvg", "training.lr _first_": "0.1"}
    second.close()
    assert client.get_run(run.info.run_id).info.status == "RUNNING"  # it may be tracked again
    for phase, status in (("Succeeded", "FINISHED"), ("Failed", "FAILED"), ("Stopped", "KILLED")):
        second.open(JOB)
        second.close(phase)
        assert client.get_run(run.info.run_id).info.status == status


def test_another_job_of_the_name_has_a_run_of_its_own(mlflow: Any, tmp_path: Path) -> None:
    uri = str(tmp_path / "runs")
    for uid in ("one", "two"):
        run = MlflowRun(uri)
        assert run.open(JobFacts("digits", uid, "model")).rounds == set()
        run.write(1, 1.0, ROUND)
    client = mlflow.MlflowClient(uri)
    assert len(client.search_runs([client.get_experiment_by_name("model").experiment_id])) == 2


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_write_that_breaks_off_is_completed_and_nothing_is_there_twice(
    before: int, mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "runs")
    run = MlflowRun(uri)
    run.open(JOB)
    run.write(1, 1.0, ROUND)
    log_batch = mlflow.MlflowClient.log_batch

    def breaking(self: Any, run_id: str, metrics: Any) -> None:
        log_batch(self, run_id, metrics=metrics[:before])
        raise mlflow.MlflowException("API request failed with exception: timed out")

    for step, values in ((2, ROUND | {"edge/a/counted": 2.0}), (1, {"test/accuracy": 0.5, "test/loss": 1.0})):
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, "log_batch", breaking)
            with pytest.raises(Unreachable, match="timed out"):
                run.write(step, 2.0, values)
        found = run.open(JOB)
        assert found.sums["edge/a/counted"] == (2 if step == 1 or before == 3 else 1)
        if step == 1 or step not in found.rounds:
            run.write(step, 2.0, values)
    assert run.open(JOB).rounds == {1, 2}
    assert steps(mlflow, uri, "train/loss") == [(1, 0.5), (2, 0.5)]
    assert steps(mlflow, uri, "edge/a/counted") == [(1, 1.0), (2, 2.0)]
    assert steps(mlflow, uri, "round/counted") == [(1, 2.0), (2, 2.0)]
    assert steps(mlflow, uri, "test/accuracy") == [(1, 0.5)]
    assert steps(mlflow, uri, "test/loss") == [(1, 1.0)]


def test_names_that_mlflow_refuses_are_changed(mlflow: Any, tmp_path: Path) -> None:
    uri = str(tmp_path / "runs")
    run = MlflowRun(uri)
    run.open(JOB)
    run.write(1, 1.0, {"train/f1@5 (macro)": 0.5, "train/../x": 1.0, "train//y": 2.0, **ROUND})
    assert steps(mlflow, uri, "train/f1_5 _macro_") == [(1, 0.5)]
    assert steps(mlflow, uri, "train_.._x") == [(1, 1.0)]
    assert steps(mlflow, uri, "train__y") == [(1, 2.0)]


def test_a_server_that_is_not_there_is_said_and_may_come_later(
    mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unreachable, match=r"^MLflow at http://127\.0\.0\.1:1: "):
        MlflowRun("http://127.0.0.1:1").require()


def test_an_address_that_mlflow_does_not_know_is_final(mlflow: Any) -> None:
    with pytest.raises(HeliographError) as refused:
        MlflowRun("ftp://nowhere").require()
    assert not isinstance(refused.value, Unreachable)


def test_a_missing_package_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(HeliographError, match=r"pip install 'heliograph\[mlflow\]'"):
        MlflowRun("runs").require()
