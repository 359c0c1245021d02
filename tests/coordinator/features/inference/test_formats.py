"""A worker that serves a file is placed where its format can run, with a version of that format."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import Generation, InferTask, Offer, Report
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import JointInferenceService, Metadata, Model, ModelVersion, WeightsRef
from heliograph.bus.contract.resources.model import ModelLabels, ModelSpec
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.inference import state_machine
from heliograph.coordinator.features.inference.service_tasks import desired_tasks
from heliograph.coordinator.features.inference.totals import Totals
from heliograph.core.errors import Refused

NOW = "2026-01-01T00:00:00.000000Z"


def _edge(name: str, **formats: str) -> EdgeView:
    return EdgeView(name, True, Report(edge=name, observed=Generation(), offers=Offer(formats=formats)))


def _model(format: str = "onnx") -> Model:
    weights = WeightsRef.model_validate({"digest": "1" * 64, "size": 4, "bucket": "models", "format": format})
    model = Model(metadata=Metadata(name="cats"), spec=ModelSpec(label_schema=ModelLabels(classes=["cat", "dog"])))
    versions = [ModelVersion(version=1, weights=weights)]
    return model.model_copy(update={"status": model.status.model_copy(update={"versions": versions})})


def _service(**worker: Any) -> JointInferenceService:
    edge = {"model": {"name": "cats"}, "format": "onnx", **worker}
    found = parse_resource({"kind": "JointInferenceService", "metadata": {"name": "s", "uid": "uid"},
                            "spec": {"edgeWorker": edge}})  # fmt: skip
    assert isinstance(found, JointInferenceService)
    return found


def _observed(service: JointInferenceService, view: View) -> tuple[JointInferenceService, dict[str, str]]:
    found = state_machine.observe(service, view, Totals(), NOW)
    return found, {each.type: f"{each.status} {each.message}" for each in found.status.conditions}


def _view(*edges: EdgeView, model: Model | None = None) -> View:
    return View({each.name: each for each in edges}, {"cats": model or _model()})


def test_a_file_is_served_where_its_runtime_is_and_the_condition_names_the_other_edges() -> None:
    view = _view(_edge("edge-1", onnx="1.32.0"), _edge("edge-2"), _edge("edge-3", tflite="2.3.0"))
    service, conditions = _observed(_service(outputs="logits"), view)
    tasks = desired_tasks(service, view)
    assert list(tasks) == ["edge-1"]
    (task,) = tasks["edge-1"]
    assert isinstance(task, InferTask) and task.script is None and task.served is not None
    assert (task.served.format, task.served.outputs, task.served.classes) == ("onnx", "logits", ["cat", "dog"])
    assert "edge-2, edge-3: no runtime for format onnx" in conditions["FormatRunnable"]
    assert "pip install 'heliograph[onnx]'" in conditions["FormatRunnable"]


def test_an_edge_that_has_installed_the_runtime_gets_its_worker() -> None:
    service, _ = _observed(_service(), _view(_edge("edge-1")))
    view = _view(_edge("edge-1", onnx="1.32.0"))
    service, conditions = _observed(service, view)
    assert conditions["FormatRunnable"].startswith("True") and list(desired_tasks(service, view))


@pytest.mark.parametrize("format", ["safetensors", "tflite"])
def test_a_version_of_another_format_is_not_served(format: str) -> None:
    view = _view(_edge("edge-1", onnx="1.32.0"), model=_model(format))
    service, conditions = _observed(_service(), view)
    assert desired_tasks(service, view) == {}
    assert f"is a {format} file" in conditions["FormatRunnable"]


def test_a_script_gets_no_file_that_it_cannot_load() -> None:
    view = _view(_edge("edge-1", onnx="1.32.0"))
    service, conditions = _observed(_service(format="script", scriptBootFile="edge.py"), view)
    assert desired_tasks(service, view) == {} and "is a onnx file" in conditions["FormatRunnable"]


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        ({"scriptBootFile": "edge.py"}, "runs no "),
        ({"format": "pickle"}, "onnx"),
        ({"format": "script"}, "names no scriptBootFile"),
        ({"format": "script", "scriptBootFile": "edge.py", "outputs": "logits"}, "format"),
        ({"parameters": [{"key": "lr", "value": 1}]}, "parameters"),
    ],
)
def test_a_worker_says_either_a_script_or_a_format(worker: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        _service(**worker)
