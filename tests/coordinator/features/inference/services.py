"""Services, views and totals from which tests of the state machine begin."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.payloads import Generation, Report, WorkerReport, WorkerTask
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import (
    JointInferenceService,
    Metadata,
    Model,
    ModelVersion,
    WeightsRef,
)
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.service_tasks import desired_tasks
from heliograph.coordinator.features.inference.totals import Totals

NOW = "2026-01-01T00:00:00.000000Z"
NONE = Totals()


def edge_with(name: str, online: bool = True, role: str = "infer", version: str = "", **worker: Any) -> EdgeView:
    fields = {"worker": "w", "role": role, "job": "s", "job_uid": "uid", "round": 1, **worker}
    found = [WorkerReport(**fields)] if worker else []
    return EdgeView(name, online, Report(edge=name, observed=Generation(), workers=found, version=version))


def weights_of(number: int) -> WeightsRef:
    return WeightsRef(digest=f"{number:064x}", size=4, bucket="models")


def model_with(name: str, *versions: int) -> Model:
    model = Model(metadata=Metadata(name=name))
    made = [ModelVersion(version=number, weights=weights_of(number)) for number in versions]
    return model.model_copy(update={"status": model.status.model_copy(update={"versions": made})})


def view_of(*edges: EdgeView, models: tuple[Model, ...] = (model_with("small", 1), model_with("deep"))) -> View:
    return View({each.name: each for each in edges}, {each.name: each for each in models})


CLOUD = edge_with("cloud")
ALL = view_of(CLOUD, edge_with("edge-1"), edge_with("edge-2"))


def service_of(generation: int = 1, **spec: Any) -> JointInferenceService:
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


def placed(view: View = ALL, **spec: Any) -> JointInferenceService:
    service = joint_inference.observe(service_of(**spec), view, NONE, NOW)
    assert desired_tasks(service, view)
    return service


def answering(*ready: str, version: str = "0.2.0", deep: str = "running") -> tuple[View, Totals]:
    """Return a view of two edges and the cloud whose workers run, and totals where those of ``ready`` answer."""
    edges = [edge_with(name, state="running", worker="s-infer", version=version) for name in ("edge-1", "edge-2")]
    cloud = edge_with("cloud", role="big-model", state=deep, worker="s-big-0", version=version)
    workers = {name: frozenset({"s-big-0" if name == "cloud" else "s-infer"}) for name in ready}
    return view_of(cloud, *edges), Totals(ready=workers)


def changed(known: JointInferenceService, **spec: Any) -> JointInferenceService:
    """Return ``known`` with another spec, as after an update request."""
    wanted = service_of(known.metadata.generation + 1, **spec)
    return joint_inference.update(known, wanted.model_copy(update={"status": known.status}))


def condition_of(service: JointInferenceService, type: str) -> tuple[str, str, str]:
    found = next(each for each in service.status.conditions if each.type == type)
    return found.status, found.reason, found.message


def tasks_of(service: JointInferenceService, view: View = ALL) -> dict[tuple[str, str], WorkerTask]:
    found = desired_tasks(service, view)
    return {(edge, task.worker): task for edge, tasks in found.items() for task in tasks}
