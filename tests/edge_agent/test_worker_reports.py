"""An agent's reports of its workers."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import InferTask, TrainTask, WorkerTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.edge_agent.reconcile import Hold
from heliograph.edge_agent.supervised_worker import Worker
from heliograph.edge_agent.worker_reports import worker_reports

MODEL = WeightsRef(digest="a" * 64, size=10**6, bucket="models")


def _task(name: str = "job-worker", **changes: Any) -> WorkerTask:
    return TrainTask(**{"worker": name, "job": "job", "job_uid": "u", "round": 3, **changes})


def test_each_worker_is_reported_with_its_round() -> None:
    worker = Worker(_task(), bytes(32), "ready", restarts=2, detail="")
    (report,) = worker_reports({"job-worker": worker}, {}, {}, {})
    assert report.model_dump(exclude_defaults=True) == {
        "worker": "job-worker", "role": "train", "job": "job", "job_uid": "u", "round": 3, "state": "running",
        "restarts": 2,
    }  # fmt: skip


def test_a_services_round_is_its_generation() -> None:
    task = InferTask(worker="street-worker", job="street", job_uid="u", generation=7)
    (report,) = worker_reports({"street-worker": Worker(task, bytes(32))}, {}, {}, {})
    assert (report.role, report.round) == ("infer", 7)


@pytest.mark.parametrize(
    ("state", "reported"),
    [("starting", "starting"), ("ready", "running"), ("backing-off", "backing-off"), ("stopping", "finished"),
     ("finished", "finished"), ("failed", "failed")],
)
def test_each_state_has_its_word(state: Any, reported: str) -> None:
    (report,) = worker_reports({"job-worker": Worker(_task(), bytes(32), state)}, {}, {}, {})
    assert (report.state, report.final) == (reported, state == "failed")


def test_a_task_that_cannot_be_done_waits_or_is_refused_with_its_reason() -> None:
    holds = {
        "b": Hold(_task("b"), "data set d is not on this node"),
        "a": Hold(_task("a"), "script x does not lie under a --code root", forbidden=True),
    }
    reports = worker_reports({"z": Worker(_task("z"), bytes(32))}, holds, {}, {})
    assert [(each.worker, each.state, each.detail) for each in reports] == [
        ("z", "starting", ""),
        ("a", "refused", "script x does not lie under a --code root"),
        ("b", "waiting", "data set d is not on this node"),
    ]


def test_a_missing_model_is_the_detail_unless_the_worker_has_its_own() -> None:
    wanted = {name: _task(name, model=MODEL) for name in "ab"}
    workers = {"a": Worker(_task("a"), bytes(32)), "b": Worker(_task("b"), bytes(32), detail="exit code 1: boom")}
    reports = worker_reports(workers, {}, wanted, {MODEL.digest: "model aaaa: not there yet"})
    assert [each.detail for each in reports] == ["model aaaa: not there yet", "exit code 1: boom"]


def test_a_task_that_waits_for_its_turn_says_so() -> None:
    holds = {"job-worker": Hold(_task(), "waits for 1 GPU", queued=True)}
    (report,) = worker_reports({}, holds, {}, {})
    assert (report.state, report.queued, report.detail) == ("waiting", True, "waits for 1 GPU")
