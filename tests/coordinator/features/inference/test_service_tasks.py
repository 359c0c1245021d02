"""The tasks of a joint inference service: what each edge and the cloud run, and which version."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from heliograph.bus.contract.model_statement import signed
from heliograph.bus.contract.payloads import ServingTask
from heliograph.bus.contract.resources import (
    Metadata,
    Model,
    ServiceNumbers,
)
from heliograph.bus.contract.resources.model import ModelSpec
from heliograph.bus.contract.weights_file import write
from heliograph.coordinator.edges.view import EdgeView
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.deployment import of_service
from heliograph.coordinator.features.inference.service_placement import placement
from heliograph.coordinator.features.inference.service_tasks import desired_tasks
from heliograph.coordinator.features.inference.totals import Totals
from heliograph.core.signing import Signer
from heliograph.core.world import World
from tests.coordinator.features.inference.services import (
    ALL,
    CLOUD,
    NONE,
    NOW,
    answering,
    changed,
    condition_of,
    edge_with,
    model_with,
    placed,
    service_of,
    tasks_of,
    view_of,
    weights_of,
)


def test_each_edge_runs_one_worker_and_the_cloud_the_replicas() -> None:
    parameters = [{"key": "threshold", "value": 0.8}, {"key": "left-out"}]
    service = placed(
        hardSampleRule={"name": "margin", "parameters": parameters, "temperature": 2.0},
        deadlineSeconds=0.2, fallback="error", offloadBudget={"requestsPerSecond": 5}, hardSamplesTo="learn",
    )  # fmt: skip
    service = changed(
        service,
        cloudWorker={"model": {"name": "deep"}, "scriptBootFile": "deep.py", "replicas": 2, "maxBatch": 7},
        edgeWorker={"model": {"name": "small"}, "scriptBootFile": "edge.py", "scriptDir": "/code",
                    "scriptArguments": ["--fast"], "scriptWorkingDir": "/code/data",
                    "parameters": [{"key": "width", "value": 3}]},
        hardSampleRule={"name": "margin", "parameters": parameters, "temperature": 2.0},
        deadlineSeconds=0.2, fallback="error", offloadBudget={"requestsPerSecond": 5}, hardSamplesTo="learn",
    )  # fmt: skip
    tasks = tasks_of(service)
    assert list(tasks) == [
        ("edge-1", "s-infer"), ("edge-2", "s-infer"), ("cloud", "s-big-0"), ("cloud", "s-big-1"),
    ]  # fmt: skip
    edge, deep = tasks["edge-1", "s-infer"], tasks["cloud", "s-big-1"]
    assert (edge.role, edge.job, edge.job_uid, edge.model) == ("infer", "s", "uid", weights_of(1))
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
    service = placed()
    before = tasks_of(service)
    after = tasks_of(changed(service, hardSampleRule={"parameters": [{"key": "threshold", "value": 0.7}]}))
    assert after.keys() == before.keys()
    for place, task in after.items():
        assert task.inference is not None
        assert task.inference.rule_parameters == {"threshold": 0.7}
        assert task.model_copy(update={"inference": before[place].inference}) == before[place]


def test_a_new_version_of_the_model_reaches_the_running_workers() -> None:
    service = placed()
    newer = view_of(*ALL.edges.values(), models=(model_with("small", 1, 2), model_with("deep")))
    before, after = tasks_of(service)["edge-1", "s-infer"], tasks_of(service, newer)["edge-1", "s-infer"]
    assert after.model == weights_of(2)
    assert after.model_copy(update={"model": before.model}) == before


def test_inline_weights_are_fetched_as_large_ones_are() -> None:
    """64 copies, one per replica, would exceed the size of a desired document."""
    weights = write({"w": np.zeros(2)}, Path("/nonexistent"))
    small = Model(metadata=Metadata(name="small"), spec=ModelSpec(weights=weights))
    view = view_of(*ALL.edges.values(), models=(small, model_with("deep")))
    assert tasks_of(placed(view), view)["edge-1", "s-infer"].model == weights.model_copy(
        update={"inline": None, "bucket": "models"}
    )


def test_another_script_is_a_launch_of_its_own_workers_only() -> None:
    service = placed()
    edge = {"model": {"name": "small"}, "scriptBootFile": "other.py"}
    service = changed(service, edgeWorker=edge)
    assert {place: task.generation for place, task in tasks_of(service).items()} == {
        ("edge-1", "s-infer"): 2, ("edge-2", "s-infer"): 2, ("cloud", "s-big-0"): 1,
    }  # fmt: skip
    service = changed(service, edgeWorker=edge, deadlineSeconds=1)
    deep = {"model": {"name": "deep"}, "scriptBootFile": "deep.py", "parameters": [{"key": "a", "value": 1}]}
    service = changed(service, edgeWorker=edge, cloudWorker=deep)
    assert {task.generation for task in tasks_of(service).values()} == {2, 4}


def test_a_participant_that_trains_by_itself_serves_nothing() -> None:
    view = view_of(CLOUD, edge_with("edge-1"), EdgeView("phone", online=True, foreign=True))
    service = placed(view)
    assert placement(service, view) == ["edge-1"] == [*service.status.edges]
    named = joint_inference.observe(service_of(edges={"names": ["edge-1", "phone"]}), view, NONE, NOW)
    message = "1 of 2 edges unknown, or without an agent: phone"
    assert condition_of(named, "EdgesKnown") == ("False", "Unknown", message)


def test_a_stopped_service_runs_nothing_until_it_is_started_again() -> None:
    service = joint_inference.observe(joint_inference.stop(placed()), ALL, NONE, "then")
    assert service.status.phase == "Stopped"
    assert tasks_of(service) == {}
    assert joint_inference.observe(joint_inference.stop(service), ALL, NONE, "later") is service
    again = joint_inference.observe(joint_inference.start(service), ALL, NONE, "later")
    assert (again.status.phase, again.status.start_time) == ("Pending", "")
    again = joint_inference.observe(again, *answering("edge-1", "cloud"), "later")
    assert (again.status.phase, again.status.start_time) == ("Running", "later")
    assert {task.generation for task in tasks_of(again).values()} == {1}
    assert joint_inference.start(again) is again


def test_all_edges_are_all_but_the_cloud_unless_it_is_named() -> None:
    assert placement(service_of(), ALL) == ["edge-1", "edge-2"]
    assert placement(service_of(edges=["cloud", "edge-2", "edge-2"]), ALL) == ["cloud", "edge-2"]


def test_edges_serve_the_version_of_the_alias_that_they_are_bound_to_with_its_signature() -> None:
    signer = Signer.made(World())
    model = model_with("small", 1, 2, 3)
    versions = [signed("small", each, None, signer) for each in model.status.versions]
    aliases = {"champion": 1, "challenger": 2}
    status = model.status.model_copy(
        update={"versions": versions, "aliases": aliases, "bindings": {"challenger": ["edge-2"]}}
    )
    view = view_of(*ALL.edges.values(), models=(model.model_copy(update={"status": status}), model_with("deep")))
    service = joint_inference.observe(service_of(), view, NONE, NOW)
    tasks = tasks_of(service, view)
    for edge, version in (("edge-1", versions[0]), ("edge-2", versions[1])):
        task = tasks[edge, "s-infer"]
        assert isinstance(task, ServingTask) and (task.model, task.signature) == (version.weights, version.signature)
    found = desired_tasks(service, view)
    again = desired_tasks(service, view_of(*view.edges.values(), edge_with("edge-3"),
                                                         models=tuple(view.models.values())))  # fmt: skip
    assert again["edge-3"] is again["edge-1"] and again["edge-1"] == found["edge-1"]  # one list for ten thousand edges


def test_a_deployment_compares_what_shall_run_with_what_each_edge_says() -> None:
    model = model_with("small", 1, 2)
    status = model.status.model_copy(
        update={"aliases": {"champion": 1, "blue": 2}, "bindings": {"blue": ["edge-2", "edge-3", "edge-9"]}}
    )
    model = model.model_copy(update={"status": status})
    edges = [edge_with(f"edge-{number}", state="running", worker="s-infer") for number in (1, 2, 3, 4)]
    edges.append(edge_with("edge-5", state="refused", worker="s-infer", detail="it has no signature"))
    edges[3] = edge_with("edge-4", online=False, state="running", worker="s-infer")
    view = view_of(CLOUD, *edges, models=(model, model_with("deep")))
    running = {"edge-1": 1, "edge-2": 1, "edge-3": 2, "edge-4": 1, "edge-5": 7}
    totals = Totals({edge: ServiceNumbers(model=weights_of(number).digest) for edge, number in running.items()})
    found = {each.edge: each for each in of_service(service_of(), model, view, totals)}
    told = {edge: (each.state, each.version, each.running_version, each.alias) for edge, each in found.items()}
    assert told == {
        "edge-1": ("deployed", 1, 1, "champion"),
        "edge-2": ("pending", 2, 1, "blue"),
        "edge-3": ("deployed", 2, 2, "blue"),
        "edge-4": ("offline", 1, 1, "champion"),
        "edge-5": ("failing", 1, None, "champion"),
    }
    assert found["edge-5"].reason == "it has no signature"
    assert not list(of_service(joint_inference.stop(service_of()), model, view, totals))
    (deep,) = of_service(service_of(), model_with("deep", 4), view, totals)
    assert (deep.edge, deep.role, deep.state, deep.version) == ("cloud", "big-model", "pending", 4)


def test_other_resources_launch_a_services_workers_anew() -> None:
    before, after = service_of(), service_of(2, edgeWorker={"model": {"name": "small"}, "scriptBootFile": "edge.py",
                                                        "resources": {"gpus": 1}})  # fmt: skip
    assert joint_inference.update(before, after).status.edge_generation == 2
