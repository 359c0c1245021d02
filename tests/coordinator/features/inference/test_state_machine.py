"""The state machine of a joint inference service and the tasks of its edges, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.model_statement import signed
from heliograph.bus.contract.payloads import Generation, Report, ServingTask, WorkerReport, WorkerTask
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import (
    JointInferenceService,
    Metadata,
    Model,
    ModelVersion,
    ServiceNumbers,
    WeightsRef,
)
from heliograph.bus.contract.resources.model import ModelSpec
from heliograph.bus.contract.weights_file import write
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.deployment import of_service
from heliograph.coordinator.features.inference.service_placement import placement
from heliograph.coordinator.features.inference.service_tasks import desired_tasks
from heliograph.coordinator.features.inference.totals import Totals
from heliograph.core.signing import Signer
from heliograph.core.world import World

NOW = "2026-01-01T00:00:00.000000Z"
NONE = Totals()


def _edge(name: str, online: bool = True, role: str = "infer", version: str = "", **worker: Any) -> EdgeView:
    fields = {"worker": "w", "role": role, "job": "s", "job_uid": "uid", "round": 1, **worker}
    found = [WorkerReport(**fields)] if worker else []
    return EdgeView(name, online, Report(edge=name, observed=Generation(), workers=found, version=version))


def _weights(number: int) -> WeightsRef:
    return WeightsRef(digest=f"{number:064x}", size=4, bucket="models")


def _model(name: str, *versions: int) -> Model:
    model = Model(metadata=Metadata(name=name))
    made = [ModelVersion(version=number, weights=_weights(number)) for number in versions]
    return model.model_copy(update={"status": model.status.model_copy(update={"versions": made})})


def _view(*edges: EdgeView, models: tuple[Model, ...] = (_model("small", 1), _model("deep"))) -> View:
    return View({each.name: each for each in edges}, {each.name: each for each in models})


CLOUD = _edge("cloud")
ALL = _view(CLOUD, _edge("edge-1"), _edge("edge-2"))


def _service(generation: int = 1, **spec: Any) -> JointInferenceService:
    document = {
        "kind": "JointInferenceService",
        "metadata": {"name": "s", "uid": "uid", "generation": generation},
        "spec": {
            "edgeWorker": {"model": {"name": "small"}, "scriptBootFile": "edge.py"},
            "cloudWorker": {"model": {"name": "deep"}, "scriptBootFile": "deep.py"},
        }
        | spec,
    }
    found = parse_resource(document)
    assert isinstance(found, JointInferenceService)
    return found


def _placed(view: View = ALL, **spec: Any) -> JointInferenceService:
    service = joint_inference.observe(_service(**spec), view, NONE, NOW)
    assert desired_tasks(service, view)
    return service


def _answering(*ready: str, version: str = "0.2.0", deep: str = "running") -> tuple[View, Totals]:
    """Return a view of two edges and the cloud whose workers run, and totals where those of ``ready`` answer."""
    edges = [_edge(name, state="running", worker="s-infer", version=version) for name in ("edge-1", "edge-2")]
    cloud = _edge("cloud", role="big-model", state=deep, worker="s-big-0", version=version)
    workers = {name: frozenset({"s-big-0" if name == "cloud" else "s-infer"}) for name in ready}
    return _view(cloud, *edges), Totals(ready=workers)


def _changed(known: JointInferenceService, **spec: Any) -> JointInferenceService:
    """Return ``known`` with another spec, as after an update request."""
    wanted = _service(known.metadata.generation + 1, **spec)
    return joint_inference.update(known, wanted.model_copy(update={"status": known.status}))


def _condition(service: JointInferenceService, type: str) -> tuple[str, str, str]:
    found = next(each for each in service.status.conditions if each.type == type)
    return found.status, found.reason, found.message


def _tasks(service: JointInferenceService, view: View = ALL) -> dict[tuple[str, str], WorkerTask]:
    found = desired_tasks(service, view)
    return {(edge, task.worker): task for edge, tasks in found.items() for task in tasks}


@pytest.mark.parametrize(
    "view, spec, missing",
    [
        (_view(CLOUD, _edge("edge-1"), models=(_model("small"),)), {}, "model deep does not exist"),
        (_view(CLOUD, _edge("edge-1"), models=()), {}, "model small does not exist; model deep does not exist"),
        (_view(CLOUD), {}, "no edge is known"),
        (_view(CLOUD, _edge("edge-1")), {"edges": {"names": ["edge-8", "edge-9"]}},
         "none of its edges is known: edge-8, edge-9"),
        (_view(_edge("edge-1")), {}, "node cloud of cloudWorker is unknown"),
    ],
)  # fmt: skip
def test_a_pending_service_names_its_missing_resources(view: View, spec: dict[str, Any], missing: str) -> None:
    service = joint_inference.observe(_service(**spec), view, NONE, NOW)
    assert service.status.phase == "Pending"
    assert _condition(service, "Ready") == ("False", "Missing", missing)
    assert desired_tasks(service, view) == {}
    assert joint_inference.observe(service, view, NONE, "later") is service  # without news there is nothing to store
    everywhere = _view(*ALL.edges.values(), _edge("edge-8"))
    placed = joint_inference.observe(service, everywhere, NONE, NOW)
    assert placed.status.phase == "Pending"
    assert desired_tasks(placed, everywhere)


def test_a_service_runs_once_a_worker_answers_on_an_edge_and_in_the_cloud() -> None:
    service = _service()
    for ready in ((), ("edge-1",), ("cloud",)):
        service = joint_inference.observe(service, *_answering(*ready), NOW)
        assert service.status.phase == "Pending"
        assert _condition(service, "Ready")[:2] == ("False", "Starting")
    service = joint_inference.observe(service, *_answering("edge-1", "cloud"), NOW)
    assert (service.status.phase, service.status.start_time) == ("Running", NOW)
    said = "1 of 2 edges and 1 of 1 replicas of the deep model answer"
    assert _condition(service, "Ready") == ("True", "Answers", said)


def test_a_running_service_goes_on_without_its_deep_model_and_not_without_its_edges() -> None:
    service = joint_inference.observe(_service(), *_answering("edge-1", "cloud"), NOW)
    service = joint_inference.observe(service, *_answering("edge-1"), "later")
    assert (service.status.phase, _condition(service, "Ready")[0]) == ("Running", "False")
    service = joint_inference.observe(service, *_answering("cloud"), "later")
    assert (service.status.phase, service.status.start_time) == ("Pending", NOW)


def test_a_worker_that_says_it_answers_but_does_not_run_does_not_answer() -> None:
    service = joint_inference.observe(_service(), *_answering("edge-1", "cloud", deep="backing-off"), NOW)
    assert service.status.phase == "Pending"
    assert _condition(service, "Ready")[1] == "WorkerFails"


def test_an_edge_that_was_ready_and_is_offline_is_taken_to_go_on() -> None:
    view, totals = _answering("edge-1", "cloud")
    view = _view(view.edges["cloud"], _edge("edge-1", online=False, version="0.2.0"))
    assert joint_inference.observe(_service(), view, totals, NOW).status.phase == "Running"


def test_workers_before_0_2_answer_as_soon_as_they_run() -> None:
    assert joint_inference.observe(_service(), *_answering(version="0.1.9"), NOW).status.phase == "Running"


def test_the_deep_models_exception_is_in_the_condition_until_it_is_mended() -> None:
    view, totals = _answering("edge-1")
    failing = Totals(cloud=ServiceNumbers(trouble="the model fails: ValueError: boom"), ready=totals.ready)
    service = joint_inference.observe(_service(), view, failing, NOW)
    status, reason, message = _condition(service, "Ready")
    assert (status, reason) == ("False", "WorkerFails")
    assert "deep model on cloud: the model fails: ValueError: boom" in message
    service = joint_inference.observe(service, *_answering("edge-1", "cloud"), NOW)
    assert [each.status for each in service.status.conditions] == ["True"] * 3


def test_each_edge_runs_one_worker_and_the_cloud_the_replicas() -> None:
    parameters = [{"key": "threshold", "value": 0.8}, {"key": "left-out"}]
    service = _placed(
        hardSampleRule={"name": "margin", "parameters": parameters, "temperature": 2.0},
        deadlineSeconds=0.2, fallback="error", offloadBudget={"requestsPerSecond": 5}, hardSamplesTo="learn",
    )  # fmt: skip
    service = _changed(
        service,
        cloudWorker={"model": {"name": "deep"}, "scriptBootFile": "deep.py", "replicas": 2, "maxBatch": 7},
        edgeWorker={"model": {"name": "small"}, "scriptBootFile": "edge.py", "scriptDir": "/code",
                    "scriptArguments": ["--fast"], "scriptWorkingDir": "/code/data",
                    "parameters": [{"key": "width", "value": 3}]},
        hardSampleRule={"name": "margin", "parameters": parameters, "temperature": 2.0},
        deadlineSeconds=0.2, fallback="error", offloadBudget={"requestsPerSecond": 5}, hardSamplesTo="learn",
    )  # fmt: skip
    tasks = _tasks(service)
    assert list(tasks) == [
        ("edge-1", "s-infer"), ("edge-2", "s-infer"), ("cloud", "s-big-0"), ("cloud", "s-big-1"),
    ]  # fmt: skip
    edge, deep = tasks["edge-1", "s-infer"], tasks["cloud", "s-big-1"]
    assert (edge.role, edge.job, edge.job_uid, edge.model) == ("infer", "s", "uid", _weights(1))
    assert (deep.role, deep.job, deep.job_uid, deep.model) == ("big-model", "s", "uid", None)
    assert edge.script is not None
    assert (edge.script.directory, edge.script.boot_file, edge.parameters) == ("/code", "edge.py", {"width": 3})
    assert (edge.script.arguments, edge.script.working_directory) == (["--fast"], "/code/data")
    assert edge.inference is not None
    assert edge.inference.model_dump() == {
        "rule": "margin", "rule_parameters": {"threshold": 0.8}, "temperature": 2.0, "deadline_seconds": 0.2,
        "requests_per_second": 5.0, "bytes_per_second": None, "fallback": "error", "max_batch": 7,
        "hard_samples_to": "learn",
        "max_wait_seconds": 0.001,
    }  # fmt: skip


def test_a_new_threshold_reaches_the_running_workers() -> None:
    service = _placed()
    before = _tasks(service)
    after = _tasks(_changed(service, hardSampleRule={"parameters": [{"key": "threshold", "value": 0.7}]}))
    assert after.keys() == before.keys()
    for place, task in after.items():
        assert task.inference is not None
        assert task.inference.rule_parameters == {"threshold": 0.7}
        assert task.model_copy(update={"inference": before[place].inference}) == before[place]


def test_a_new_version_of_the_model_reaches_the_running_workers() -> None:
    service = _placed()
    newer = _view(*ALL.edges.values(), models=(_model("small", 1, 2), _model("deep")))
    before, after = _tasks(service)["edge-1", "s-infer"], _tasks(service, newer)["edge-1", "s-infer"]
    assert after.model == _weights(2)
    assert after.model_copy(update={"model": before.model}) == before


def test_inline_weights_are_fetched_as_large_ones_are() -> None:
    """64 copies, one per replica, would exceed the size of a desired document."""
    weights = write({"w": np.zeros(2)}, Path("/nonexistent"))
    small = Model(metadata=Metadata(name="small"), spec=ModelSpec(weights=weights))
    view = _view(*ALL.edges.values(), models=(small, _model("deep")))
    assert _tasks(_placed(view), view)["edge-1", "s-infer"].model == weights.model_copy(
        update={"inline": None, "bucket": "models"}
    )


def test_another_script_is_a_launch_of_its_own_workers_only() -> None:
    service = _placed()
    edge = {"model": {"name": "small"}, "scriptBootFile": "other.py"}
    service = _changed(service, edgeWorker=edge)
    assert {place: task.generation for place, task in _tasks(service).items()} == {
        ("edge-1", "s-infer"): 2, ("edge-2", "s-infer"): 2, ("cloud", "s-big-0"): 1,
    }  # fmt: skip
    service = _changed(service, edgeWorker=edge, deadlineSeconds=1)
    deep = {"model": {"name": "deep"}, "scriptBootFile": "deep.py", "parameters": [{"key": "a", "value": 1}]}
    service = _changed(service, edgeWorker=edge, cloudWorker=deep)
    assert {task.generation for task in _tasks(service).values()} == {2, 4}


def test_an_edge_that_comes_later_gets_its_worker() -> None:
    service = _placed(_view(CLOUD, _edge("edge-1")), edges={"names": ["edge-1", "edge-2"]})
    message = "1 of 2 edges unknown, or without an agent: edge-2"
    assert _condition(service, "EdgesKnown") == ("False", "Unknown", message)
    assert list(service.status.edges) == ["edge-1"]
    service = joint_inference.observe(service, ALL, NONE, NOW)
    assert _condition(service, "EdgesKnown")[0] == "True"
    assert ("edge-2", "s-infer") in _tasks(service)


def test_a_participant_that_trains_by_itself_serves_nothing() -> None:
    view = _view(CLOUD, _edge("edge-1"), EdgeView("phone", online=True, foreign=True))
    service = _placed(view)
    assert placement(service, view) == ["edge-1"] == [*service.status.edges]
    named = joint_inference.observe(_service(edges={"names": ["edge-1", "phone"]}), view, NONE, NOW)
    message = "1 of 2 edges unknown, or without an agent: phone"
    assert _condition(named, "EdgesKnown") == ("False", "Unknown", message)


def test_an_edge_that_is_offline_goes_on_and_is_no_fault() -> None:
    view = _view(CLOUD, _edge("edge-1"), _edge("edge-2", online=False))
    service = _placed(view)
    assert {edge: each.trouble for edge, each in service.status.edges.items()} == {"edge-1": "", "edge-2": "offline"}
    assert ("edge-2", "s-infer") in _tasks(service, view)
    assert _condition(service, "WorkersHealthy")[0] == "True"


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
    view = _view(CLOUD, _edge("edge-1", **state), _edge("edge-2"))
    service = _placed(view)
    assert trouble in service.status.edges["edge-1"].trouble
    status, reason, message = _condition(service, "WorkersHealthy")
    assert (status, reason) == ("False", "WorkerFails")
    assert message.startswith("edge-1: ") and trouble in message
    assert ("edge-1", "s-infer") in _tasks(service, view)


def test_a_trouble_stays_while_the_worker_is_tried_again() -> None:
    service = _placed(_view(CLOUD, _edge("edge-1", state="backing-off", detail="boom", restarts=3)))
    again = _view(CLOUD, _edge("edge-1", state="starting", restarts=3))
    assert joint_inference.observe(service, again, NONE, "later") is service
    loads = _view(CLOUD, _edge("edge-1", state="running", worker="s-infer", restarts=3, version="0.2.0"))
    assert joint_inference.observe(service, loads, NONE, "later") is service
    works = _view(CLOUD, _edge("edge-1", state="running", worker="s-infer", restarts=3))
    service = joint_inference.observe(service, works, NONE, NOW)
    assert service.status.edges["edge-1"].trouble == ""
    assert _condition(service, "WorkersHealthy")[0] == "True"


def test_the_trouble_of_a_script_that_crashes_again_and_again_keeps_its_words() -> None:
    crash = "NameError: name 'np' is not defined"
    service = _placed(_view(CLOUD, _edge("edge-1", state="backing-off", detail=f"exit code 1: {crash}", restarts=1)))
    again = ("starting", ""), ("running", ""), ("running", crash), ("backing-off", f"exit code 1: {crash}")
    for state, detail in again:
        view = _view(CLOUD, _edge("edge-1", state=state, detail=detail, restarts=2, version="0.2.0"))
        assert joint_inference.observe(service, view, NONE, "later") is service, (state, detail)
    other = _view(CLOUD, _edge("edge-1", state="running", detail="OSError: no camera", restarts=2, version="0.2.0"))
    service = joint_inference.observe(service, other, NONE, NOW)
    assert _condition(service, "WorkersHealthy")[2] == "edge-1: OSError: no camera"


def test_the_deep_models_trouble_is_shown_for_the_cloud() -> None:
    cloud = _edge("cloud", role="big-model", state="backing-off", detail="boom")
    service = _placed(_view(cloud, _edge("edge-1")))
    assert service.status.cloud.trouble == "boom"
    assert _condition(service, "WorkersHealthy")[2] == "deep model on cloud: boom"


def test_totals_and_a_workers_own_trouble_are_shown() -> None:
    totals = Totals(
        {"edge-1": ServiceNumbers(requests=3, trouble="model x does not load"), "gone": ServiceNumbers(requests=4)},
        ServiceNumbers(requests=2), ServiceNumbers(requests=7),
    )  # fmt: skip
    view = _view(CLOUD, _edge("edge-1", state="running"), _edge("edge-2"))
    status = joint_inference.observe(_service(), view, totals, NOW).status
    assert {edge: each.requests for edge, each in status.edges.items()} == {"edge-1": 3, "edge-2": 0}
    assert (status.total.requests, status.cloud.requests) == (7, 2)
    assert status.edges["edge-1"].trouble == "model x does not load"


def test_a_stopped_service_runs_nothing_until_it_is_started_again() -> None:
    service = joint_inference.observe(joint_inference.stop(_placed()), ALL, NONE, "then")
    assert service.status.phase == "Stopped"
    assert _tasks(service) == {}
    assert joint_inference.observe(joint_inference.stop(service), ALL, NONE, "later") is service
    again = joint_inference.observe(joint_inference.start(service), ALL, NONE, "later")
    assert (again.status.phase, again.status.start_time) == ("Pending", "")
    again = joint_inference.observe(again, *_answering("edge-1", "cloud"), "later")
    assert (again.status.phase, again.status.start_time) == ("Running", "later")
    assert {task.generation for task in _tasks(again).values()} == {1}
    assert joint_inference.start(again) is again


def test_a_status_shows_as_many_edges_as_it_can_hold() -> None:
    many = _view(CLOUD, *(_edge(f"edge-{number}") for number in range(joint_inference.EDGES_SHOWN + 9)))
    service = _placed(many)
    assert len(service.status.edges) == joint_inference.EDGES_SHOWN
    assert len(_tasks(service, many)) == joint_inference.EDGES_SHOWN + 10
    assert _condition(service, "Ready")[2].startswith(f"0 of {joint_inference.EDGES_SHOWN + 9} edges")


def test_all_edges_are_all_but_the_cloud_unless_it_is_named() -> None:
    assert placement(_service(), ALL) == ["edge-1", "edge-2"]
    assert placement(_service(edges=["cloud", "edge-2", "edge-2"]), ALL) == ["cloud", "edge-2"]


def test_edges_serve_the_version_of_the_alias_that_they_are_bound_to_with_its_signature() -> None:
    signer = Signer.made(World())
    model = _model("small", 1, 2, 3)
    versions = [signed("small", each, None, signer) for each in model.status.versions]
    aliases = {"champion": 1, "challenger": 2}
    status = model.status.model_copy(
        update={"versions": versions, "aliases": aliases, "bindings": {"challenger": ["edge-2"]}}
    )
    view = _view(*ALL.edges.values(), models=(model.model_copy(update={"status": status}), _model("deep")))
    service = joint_inference.observe(_service(), view, NONE, NOW)
    tasks = _tasks(service, view)
    for edge, version in (("edge-1", versions[0]), ("edge-2", versions[1])):
        task = tasks[edge, "s-infer"]
        assert isinstance(task, ServingTask) and (task.model, task.signature) == (version.weights, version.signature)
    found = desired_tasks(service, view)
    again = desired_tasks(service, _view(*view.edges.values(), _edge("edge-3"),
                                                         models=tuple(view.models.values())))  # fmt: skip
    assert again["edge-3"] is again["edge-1"] and again["edge-1"] == found["edge-1"]  # one list for ten thousand edges


def test_a_deployment_compares_what_shall_run_with_what_each_edge_says() -> None:
    model = _model("small", 1, 2)
    status = model.status.model_copy(
        update={"aliases": {"champion": 1, "blue": 2}, "bindings": {"blue": ["edge-2", "edge-3", "edge-9"]}}
    )
    model = model.model_copy(update={"status": status})
    edges = [_edge(f"edge-{number}", state="running", worker="s-infer") for number in (1, 2, 3, 4)]
    edges.append(_edge("edge-5", state="refused", worker="s-infer", detail="it has no signature"))
    edges[3] = _edge("edge-4", online=False, state="running", worker="s-infer")
    view = _view(CLOUD, *edges, models=(model, _model("deep")))
    running = {"edge-1": 1, "edge-2": 1, "edge-3": 2, "edge-4": 1, "edge-5": 7}
    totals = Totals({edge: ServiceNumbers(model=_weights(number).digest) for edge, number in running.items()})
    found = {each.edge: each for each in of_service(_service(), model, view, totals)}
    told = {edge: (each.state, each.version, each.running_version, each.alias) for edge, each in found.items()}
    assert told == {
        "edge-1": ("deployed", 1, 1, "champion"),
        "edge-2": ("pending", 2, 1, "blue"),
        "edge-3": ("deployed", 2, 2, "blue"),
        "edge-4": ("offline", 1, 1, "champion"),
        "edge-5": ("failing", 1, None, "champion"),
    }
    assert found["edge-5"].reason == "it has no signature"
    assert not list(of_service(joint_inference.stop(_service()), model, view, totals))
    (deep,) = of_service(_service(), _model("deep", 4), view, totals)
    assert (deep.edge, deep.role, deep.state, deep.version) == ("cloud", "big-model", "pending", 4)


def test_a_service_whose_worker_waits_for_its_turn_says_for_what() -> None:
    why = "waits for 1 GPU: 1 of 1 taken, by other (priority 5)"
    queued = _edge("edge-1", version="0.2.0", state="waiting", detail=why, queued=True)
    service = _service(priority=3, edgeWorker={"model": {"name": "small"}, "scriptBootFile": "edge.py",
                                               "resources": {"memory": "1Gi", "gpus": 1}})  # fmt: skip
    waits = joint_inference.observe(service, _view(CLOUD, queued), NONE, NOW)
    told = {each.type: (each.status, each.reason, each.message) for each in waits.status.conditions}
    assert told["Scheduled"] == ("False", "WaitsForNode", f"edge-1: {why}")
    assert told["WorkersHealthy"][0] == "True"  # nothing is wrong with it
    assert told["Ready"][1:] == ("WaitsForNode", "0 of 1 edges and 0 of 1 replicas of the deep model answer; "
                                 f"edge-1: {why}")  # fmt: skip
    runs = joint_inference.observe(waits, _view(CLOUD, _edge("edge-1", version="0.2.0")), NONE, NOW)
    assert ("Scheduled", "True") in [(each.type, each.status) for each in runs.status.conditions]
    (task,) = desired_tasks(waits, _view(CLOUD, queued))["edge-1"]
    assert task.asks is not None
    assert (task.asks.memory, task.asks.gpus, task.asks.priority) == (1 << 30, 1, 3)


def test_other_resources_launch_a_services_workers_anew() -> None:
    before, after = _service(), _service(2, edgeWorker={"model": {"name": "small"}, "scriptBootFile": "edge.py",
                                                        "resources": {"gpus": 1}})  # fmt: skip
    assert joint_inference.update(before, after).status.edge_generation == 2
