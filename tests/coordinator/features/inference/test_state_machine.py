"""The state machine of a joint inference service: phases, troubles and conditions, without a broker."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.resources import (
    ServiceNumbers,
)
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.service_tasks import desired_tasks
from heliograph.coordinator.features.inference.totals import Totals
from tests.coordinator.features.inference.services import (
    ALL,
    CLOUD,
    NONE,
    NOW,
    answering,
    condition_of,
    edge_with,
    model_with,
    placed,
    service_of,
    tasks_of,
    view_of,
)


@pytest.mark.parametrize(
    "view, spec, missing",
    [
        (view_of(CLOUD, edge_with("edge-1"), models=(model_with("small"),)), {}, "model deep does not exist"),
        (view_of(CLOUD, edge_with("edge-1"), models=()), {}, "model small does not exist; model deep does not exist"),
        (view_of(CLOUD), {}, "no edge is known"),
        (view_of(CLOUD, edge_with("edge-1")), {"edges": {"names": ["edge-8", "edge-9"]}},
         "none of its edges is known: edge-8, edge-9"),
        (view_of(edge_with("edge-1")), {}, "node cloud of cloudWorker is unknown"),
    ],
)  # fmt: skip
def test_a_pending_service_names_its_missing_resources(view: View, spec: dict[str, Any], missing: str) -> None:
    service = joint_inference.observe(service_of(**spec), view, NONE, NOW)
    assert service.status.phase == "Pending"
    assert condition_of(service, "Ready") == ("False", "Missing", missing)
    assert desired_tasks(service, view) == {}
    assert joint_inference.observe(service, view, NONE, "later") is service  # without news there is nothing to store
    everywhere = view_of(*ALL.edges.values(), edge_with("edge-8"))
    placed = joint_inference.observe(service, everywhere, NONE, NOW)
    assert placed.status.phase == "Pending"
    assert desired_tasks(placed, everywhere)


def test_a_service_runs_once_a_worker_answers_on_an_edge_and_in_the_cloud() -> None:
    service = service_of()
    for ready in ((), ("edge-1",), ("cloud",)):
        service = joint_inference.observe(service, *answering(*ready), NOW)
        assert service.status.phase == "Pending"
        assert condition_of(service, "Ready")[:2] == ("False", "Starting")
    service = joint_inference.observe(service, *answering("edge-1", "cloud"), NOW)
    assert (service.status.phase, service.status.start_time) == ("Running", NOW)
    said = "1 of 2 edges and 1 of 1 replicas of the deep model answer"
    assert condition_of(service, "Ready") == ("True", "Answers", said)


def test_a_running_service_goes_on_without_its_deep_model_and_not_without_its_edges() -> None:
    service = joint_inference.observe(service_of(), *answering("edge-1", "cloud"), NOW)
    service = joint_inference.observe(service, *answering("edge-1"), "later")
    assert (service.status.phase, condition_of(service, "Ready")[0]) == ("Running", "False")
    service = joint_inference.observe(service, *answering("cloud"), "later")
    assert (service.status.phase, service.status.start_time) == ("Pending", NOW)


def test_a_worker_that_says_it_answers_but_does_not_run_does_not_answer() -> None:
    service = joint_inference.observe(service_of(), *answering("edge-1", "cloud", deep="backing-off"), NOW)
    assert service.status.phase == "Pending"
    assert condition_of(service, "Ready")[1] == "WorkerFails"


def test_an_edge_that_was_ready_and_is_offline_is_taken_to_go_on() -> None:
    view, totals = answering("edge-1", "cloud")
    view = view_of(view.edges["cloud"], edge_with("edge-1", online=False, version="0.2.0"))
    assert joint_inference.observe(service_of(), view, totals, NOW).status.phase == "Running"


def test_the_deep_models_exception_is_in_the_condition_until_it_is_mended() -> None:
    view, totals = answering("edge-1")
    failing = Totals(cloud=ServiceNumbers(trouble="the model fails: ValueError: boom"), ready=totals.ready)
    service = joint_inference.observe(service_of(), view, failing, NOW)
    status, reason, message = condition_of(service, "Ready")
    assert (status, reason) == ("False", "WorkerFails")
    assert "deep model on cloud: the model fails: ValueError: boom" in message
    service = joint_inference.observe(service, *answering("edge-1", "cloud"), NOW)
    assert [each.status for each in service.status.conditions] == ["True"] * 3


def test_an_edge_that_comes_later_gets_its_worker() -> None:
    service = placed(view_of(CLOUD, edge_with("edge-1")), edges={"names": ["edge-1", "edge-2"]})
    message = "1 of 2 edges unknown, or without an agent: edge-2"
    assert condition_of(service, "EdgesKnown") == ("False", "Unknown", message)
    assert list(service.status.edges) == ["edge-1"]
    service = joint_inference.observe(service, ALL, NONE, NOW)
    assert condition_of(service, "EdgesKnown")[0] == "True"
    assert ("edge-2", "s-infer") in tasks_of(service)


def test_an_edge_that_is_offline_goes_on_and_is_no_fault() -> None:
    view = view_of(CLOUD, edge_with("edge-1"), edge_with("edge-2", online=False))
    service = placed(view)
    assert {edge: each.trouble for edge, each in service.status.edges.items()} == {"edge-1": "", "edge-2": "offline"}
    assert ("edge-2", "s-infer") in tasks_of(service, view)
    assert condition_of(service, "WorkersHealthy")[0] == "True"


@pytest.mark.parametrize(
    "state, trouble",
    [
        ({"state": "refused", "detail": "script edge.py does not lie under a --code root"}, "--code root"),
        ({"state": "backing-off", "detail": "exit code 1: boom", "restarts": 1}, "exit code 1: boom"),
        ({"state": "waiting", "detail": "script edge.py is not on this node"}, "is not on this node"),
        ({"state": "running", "detail": "model 00 does not load"}, "does not load"),
    ],
)
def test_an_edge_whose_worker_fails_is_named_and_the_others_run(state: dict[str, Any], trouble: str) -> None:
    view = view_of(CLOUD, edge_with("edge-1", **state), edge_with("edge-2"))
    service = placed(view)
    assert trouble in service.status.edges["edge-1"].trouble
    status, reason, message = condition_of(service, "WorkersHealthy")
    assert (status, reason) == ("False", "WorkerFails")
    assert message.startswith("edge-1: ") and trouble in message
    assert ("edge-1", "s-infer") in tasks_of(service, view)


def test_a_trouble_stays_while_the_worker_is_tried_again() -> None:
    service = placed(view_of(CLOUD, edge_with("edge-1", state="backing-off", detail="boom", restarts=3)))
    again = view_of(CLOUD, edge_with("edge-1", state="starting", restarts=3))
    assert joint_inference.observe(service, again, NONE, "later") is service
    loads = view_of(CLOUD, edge_with("edge-1", state="running", worker="s-infer", restarts=3, version="0.2.0"))
    assert joint_inference.observe(service, loads, NONE, "later") is service
    works = view_of(CLOUD, edge_with("edge-1", state="running", worker="s-infer", restarts=3))
    answers = Totals(ready={"edge-1": frozenset({"s-infer"})})
    service = joint_inference.observe(service, works, answers, NOW)
    assert service.status.edges["edge-1"].trouble == ""
    assert condition_of(service, "WorkersHealthy")[0] == "True"


def test_the_trouble_of_a_script_that_crashes_again_and_again_keeps_its_words() -> None:
    crash = "NameError: name 'np' is not defined"
    failing = edge_with("edge-1", state="backing-off", detail=f"exit code 1: {crash}", restarts=1)
    service = placed(view_of(CLOUD, failing))
    again = ("starting", ""), ("running", ""), ("running", crash), ("backing-off", f"exit code 1: {crash}")
    for state, detail in again:
        view = view_of(CLOUD, edge_with("edge-1", state=state, detail=detail, restarts=2, version="0.2.0"))
        assert joint_inference.observe(service, view, NONE, "later") is service, (state, detail)
    other = edge_with("edge-1", state="running", detail="OSError: no camera", restarts=2, version="0.2.0")
    service = joint_inference.observe(service, view_of(CLOUD, other), NONE, NOW)
    assert condition_of(service, "WorkersHealthy")[2] == "edge-1: OSError: no camera"


def test_the_deep_models_trouble_is_shown_for_the_cloud() -> None:
    cloud = edge_with("cloud", role="big-model", state="backing-off", detail="boom")
    service = placed(view_of(cloud, edge_with("edge-1")))
    assert service.status.cloud.trouble == "boom"
    assert condition_of(service, "WorkersHealthy")[2] == "deep model on cloud: boom"


def test_totals_and_a_workers_own_trouble_are_shown() -> None:
    totals = Totals(
        {"edge-1": ServiceNumbers(requests=3, trouble="model x does not load"), "gone": ServiceNumbers(requests=4)},
        ServiceNumbers(requests=2), ServiceNumbers(requests=7),
    )  # fmt: skip
    view = view_of(CLOUD, edge_with("edge-1", state="running"), edge_with("edge-2"))
    status = joint_inference.observe(service_of(), view, totals, NOW).status
    assert {edge: each.requests for edge, each in status.edges.items()} == {"edge-1": 3, "edge-2": 0}
    assert (status.total.requests, status.cloud.requests) == (7, 2)
    assert status.edges["edge-1"].trouble == "model x does not load"


def test_a_status_shows_as_many_edges_as_it_can_hold() -> None:
    many = view_of(CLOUD, *(edge_with(f"edge-{number}") for number in range(joint_inference.EDGES_SHOWN + 9)))
    service = placed(many)
    assert len(service.status.edges) == joint_inference.EDGES_SHOWN
    assert len(tasks_of(service, many)) == joint_inference.EDGES_SHOWN + 10
    assert condition_of(service, "Ready")[2].startswith(f"0 of {joint_inference.EDGES_SHOWN + 9} edges")


def test_a_service_whose_worker_waits_for_its_turn_says_for_what() -> None:
    why = "waits for 1 GPU: 1 of 1 taken, by other (priority 5)"
    queued = edge_with("edge-1", version="0.2.0", state="waiting", detail=why, queued=True)
    service = service_of(priority=3, edgeWorker={"model": {"name": "small"}, "scriptBootFile": "edge.py",
                                               "resources": {"memory": "1Gi", "gpus": 1}})  # fmt: skip
    waits = joint_inference.observe(service, view_of(CLOUD, queued), NONE, NOW)
    told = {each.type: (each.status, each.reason, each.message) for each in waits.status.conditions}
    assert told["Scheduled"] == ("False", "WaitsForNode", f"edge-1: {why}")
    assert told["WorkersHealthy"][0] == "True"  # nothing is wrong with it
    assert told["Ready"][1:] == ("WaitsForNode", "0 of 1 edges and 0 of 1 replicas of the deep model answer; "
                                 f"edge-1: {why}")  # fmt: skip
    runs = joint_inference.observe(waits, view_of(CLOUD, edge_with("edge-1", version="0.2.0")), NONE, NOW)
    assert ("Scheduled", "True") in [(each.type, each.status) for each in runs.status.conditions]
    (task,) = desired_tasks(waits, view_of(CLOUD, queued))["edge-1"]
    assert task.asks is not None
    assert (task.asks.memory, task.asks.gpus, task.asks.priority) == (1 << 30, 1, 3)
