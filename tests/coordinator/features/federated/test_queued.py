"""Jobs whose workers ask for memory and GPUs: placed where there are some; one that waits for its turn says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.bus.contract.payloads import (
    EvaluateTask,
    Generation,
    NodeCapacity,
    Offer,
    Report,
    TrainTask,
    WorkerReport,
)
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Condition, DatasetIndex, FederatedTask, Metadata, Model
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.selection import Missing, Selection, ready_of, select
from heliograph.core.errors import Refused

NOW, LATER = "2026-01-01T00:00:00.000000Z", "2026-01-01T01:00:00.000000Z"
GI = 1 << 30
WHY = "waits for 1 GPU: 1 of 1 taken, by other (priority 5)"


def _edge(
    name: str, memory: int = 8, gpus: int = 1, queued: str = "", role: str = "train", known: bool = True
) -> EdgeView:  # fmt: skip
    workers = [WorkerReport(worker=f"j-{role}", role=role, job="j", job_uid="uid", round=1, state="waiting",
                            detail=queued, queued=True)] if queued else []  # fmt: skip
    return EdgeView(name, True, Report(
        edge=name, observed=Generation(), datasets=[DatasetIndex(name="data", samples=10)], version="0.2.0",
        offers=Offer(algorithms={"FedAvg": {}}), workers=workers,
        capacity=NodeCapacity(memory=memory * GI, gpus=gpus) if known else None,
    ))  # fmt: skip


def _view(*edges: EdgeView) -> View:
    return View({each.name: each for each in (_edge("cloud"), *edges)}, {"m": Model(metadata=Metadata(name="m"))})


def _task(*workers: dict[str, Any], resources: dict[str, Any] | None = None, **spec: Any) -> FederatedTask:
    worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"} | (
        {"resources": resources} if resources else {})  # fmt: skip
    document = {
        "kind": "FederatedTask",
        "metadata": {"name": "j", "uid": "uid", "creationTimestamp": NOW},
        "spec": {"aggregationWorker": {"model": {"name": "m"}},
                 "trainingWorkers": [*(workers or ({"name": "w", "workerSpec": worker},))]} | spec,
    }  # fmt: skip
    found = parse_resource(document)
    assert isinstance(found, FederatedTask)
    return found


def _running(task: FederatedTask, view: View) -> FederatedTask:
    begun = federated.begin(task, view, NOW, 1)
    assert begun.status.phase == "Running"
    return begun


def _told(task: FederatedTask, type: str) -> Condition | None:
    return next((each for each in task.status.conditions if each.type == type), None)


@pytest.mark.parametrize(
    ("given", "size"),
    [("512Mi", 512 << 20), ("1.5Gi", 3 << 29), ("2G", 2 * 10**9), ("1048576", 1 << 20), (4096, 4096), ("3k", 3000)],
)
def test_memory_is_written_as_in_kubernetes(given: object, size: int) -> None:
    (worker,) = _task(resources={"memory": given, "gpus": 2}).spec.training_workers
    assert worker.worker_spec.resources is not None
    assert (worker.worker_spec.resources.memory_bytes, worker.worker_spec.resources.gpus) == (size, 2)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"memory": "4 GB"}, "expected bytes as Kubernetes writes them, such as 512Mi, 4Gi or 2G, got 4 GB"),
        ({"memory": "-1Gi"}, "got -1Gi"),
        ({"memory": "9999999Ti"}, "got 9999999Ti"),
        ({"memory": True}, "resources.memory"),
        ({"gpus": -1}, "expected greater than or equal to 0, got -1"),
        ({"gpus": 0.5}, "resources.gpus"),
        ({"cpus": 2}, "expected no such field"),
    ],
)
def test_a_wrong_ask_is_refused_by_name(resources: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as refused:
        _task(resources=resources)
    assert words in str(refused.value)


def test_priorities_have_bounds() -> None:
    assert _task(priority=-7).spec.priority == -7
    with pytest.raises(Refused, match=r"field spec\.priority"):
        _task(priority=1001)


def test_workers_are_placed_where_there_is_as_much_as_they_ask() -> None:
    view = _view(_edge("edge-1", gpus=0), _edge("edge-2", memory=2), _edge("edge-3"), _edge("edge-4", known=False))
    placed = select(_task(resources={"memory": "4Gi", "gpus": 1}, participants={"all": True}), view)
    assert isinstance(placed, Selection)
    assert set(placed.assignments.values()) == {"edge-3", "edge-4"}  # an agent before 0.2 does not say what it has
    assert isinstance(select(_task(resources={"gpus": 9}), _view(_edge("edge-1"))), Missing)


def test_a_job_that_fits_nowhere_says_so_and_stays_pending() -> None:
    view = _view(_edge("edge-1", gpus=0))
    waiting = federated.begin(_task(resources={"gpus": 1}), view, NOW, 1)
    ready = _told(waiting, "Ready")
    assert ready is not None
    assert "no free edge offers data set data and has the memory and GPUs that it asks for" in ready.message
    named = {"name": "w", "nodeName": "edge-1", "workerSpec": {"dataset": {"name": "data"}, "resources": {"gpus": 1}}}
    missing = select(_task(named), view)
    assert isinstance(missing, Missing)
    assert missing.what == ["node edge-1 does not have as many GPUs as training worker w asks for"]


def test_every_training_task_says_what_its_worker_asks_and_since_when() -> None:
    view = _view(_edge("edge-1"), _edge("edge-2"))
    spec = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
    task = _running(_task({"name": "a", "workerSpec": spec | {"resources": {"memory": "1Gi"}}},
                          {"name": "b", "workerSpec": spec | {"resources": {"gpus": 1}}}, priority=3,
                          evaluationWorker={"dataset": {"name": "data"}, "resources": {"gpus": 1}}), view)  # fmt: skip
    asks = {one.worker: one.asks for tasks in desired_tasks(task, view).values() for one in tasks}
    found = {name: ask.model_dump(exclude_defaults=True) for name, ask in asks.items() if ask is not None}
    assert found == {
        "j-a": {"memory": GI, "priority": 3, "since": NOW},
        "j-b": {"gpus": 1, "priority": 3, "since": NOW},
        "j-evaluation-worker": {"gpus": 1, "priority": 3, "since": NOW},
    }
    plain = _running(_task(priority=3), view)
    assert all(one.asks is None for tasks in desired_tasks(plain, view).values() for one in tasks)


def test_a_job_whose_workers_all_wait_for_their_turn_says_why_and_does_not_fail() -> None:
    free, taken = _edge("edge-1"), _edge("edge-1", queued=WHY)
    task = _running(_task(resources={"gpus": 1}, roundDeadlineSeconds=5), _view(free))
    waiting = federated.observe(task, _view(taken), LATER)  # its deadline has passed long ago
    assert waiting.status.phase == "Running"
    scheduled = _told(waiting, "Scheduled")
    assert scheduled is not None
    assert (scheduled.status, scheduled.reason) == ("False", "WaitsForNode")
    assert scheduled.message == f"edge-1: {WHY}"
    assert _told(waiting, "InTime") is None  # neither its workers nor its deadline are wrong
    healthy = _told(waiting, "WorkersHealthy")
    assert healthy is not None
    assert healthy.status == "True"
    runs = _told(federated.observe(waiting, _view(free), LATER), "Scheduled")
    assert runs is not None
    assert (runs.status, runs.reason) == ("True", "AllRun")


def test_a_job_that_never_waited_has_no_such_condition() -> None:
    view = _view(_edge("edge-1"))
    assert _told(federated.observe(_running(_task(), view), view, LATER), "Scheduled") is None


def test_rounds_go_on_without_an_edge_that_waits_while_others_work() -> None:
    view = _view(_edge("edge-1", queued=WHY), _edge("edge-2"))
    assert ready_of("uid", view, {"edge-1", "edge-2"}) == {"edge-2"}
    task = _running(_task(resources={"gpus": 1}, participants={"all": True}), _view(_edge("edge-1"), _edge("edge-2")))
    asked = federated.observe(task.model_copy(update={"status": task.status.model_copy(
        update={"participants": ["edge-1"]})}), view, LATER)  # fmt: skip
    assert asked.status.participants == ["edge-2"]


def test_an_evaluation_that_waits_for_its_turn_is_named_too() -> None:
    node = _edge("edge-9", queued=WHY, role="evaluate")
    view = _view(_edge("edge-1"), node)
    task = _running(_task(evaluationWorker={"nodeName": "edge-9", "dataset": {"name": "data"}}), view)
    scheduled = _told(federated.observe(task, view, NOW), "Scheduled")
    assert scheduled is not None
    assert scheduled.message == f"edge-9: {WHY}"
    assert (node.queued("uid", EvaluateTask), node.queued("uid", TrainTask), node.missing("uid")) == (WHY, "", "")


def test_a_job_names_the_nodes_that_have_no_room_left() -> None:
    edge = _edge("edge-1")
    task = _running(_task(), _view(edge))
    assert _told(federated.observe(task, _view(edge), NOW), "HasRoom") is None
    assert edge.report is not None
    full = replace(edge, report=edge.report.model_copy(update={"full": ["the disk is full: make room"]}))
    cloud = replace(_edge("cloud"), full=("bucket models has no room left: run 'heliograph gc'",))
    waits = federated.observe(task, _view(full, cloud), NOW)
    room = _told(waits, "HasRoom")
    assert room is not None
    assert (room.status, room.reason) == ("False", "StoreFull")
    assert room.message == (
        "cloud: bucket models has no room left: run 'heliograph gc'; edge-1: the disk is full: make room"
    )
    again = _told(federated.observe(waits, _view(edge), NOW), "HasRoom")
    assert again is not None
    assert again.status == "True"
