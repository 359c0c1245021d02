"""A worker's image and what belongs to it, as documents name them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from heliograph.bus.contract.resources import IncrementalLearningJob, InferenceScript
from heliograph.bus.contract.resources.worker_spec import WorkerSpec

IMAGE = "registry.example.com/team/trainer@sha256:" + "0" * 64


def _refusal(model: Any, document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as raised:
        model.model_validate(document)
    return str(raised.value)


def test_documents_without_an_image_are_written_as_before() -> None:
    assert WorkerSpec.model_validate({"trainScriptBootFile": "a.py"}).model_dump(exclude_none=True) == {
        "trainScriptBootFile": "a.py", "parameters": [],
    }  # fmt: skip


def test_everything_that_belongs_to_an_image_is_kept() -> None:
    document = {
        "image": IMAGE,
        "command": ["/opt/venv/bin/python3"],
        "args": ["/app/train.py", "--epochs", "3"],
        "env": [{"name": "LEVEL", "value": "debug"}],
        "volumes": [{"mountPath": "/cache", "hostPath": "/data/cache", "writable": True},
                    {"mountPath": "/tmp/big", "emptyDir": "4Gi"}, {"mountPath": "/etc/app", "configMap": "app.conf"}],
        "resources": {"cpu": "500m", "memory": "1Gi", "gpus": 1},
    }  # fmt: skip
    spec = WorkerSpec.model_validate(document)
    dumped = spec.model_dump(exclude_none=True, exclude_defaults=True)
    assert {key: dumped[key] for key in document if key != "volumes"} == {
        key: value for key, value in document.items() if key != "volumes"
    }
    assert [each.mount_path for each in spec.volumes] == ["/cache", "/tmp/big", "/etc/app"]
    assert (spec.interpreter, spec.image_script) == ("/opt/venv/bin/python3", ("/app/train.py", "--epochs", "3"))
    assert spec.names_code


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"args": ["/app/train.py"]}, "args without an image"),
        ({"env": [{"name": "A"}], "volumes": [{"mountPath": "/a", "emptyDir": ""}]}, "env and volumes without an"),
        ({"image": "no image"}, "image"),
        ({"image": IMAGE, "command": ["sh", "-c", "rm"]}, "command begins with a Python interpreter"),
        ({"image": IMAGE, "command": ["python", "-c", "print()"]}, "without options"),
        ({"image": IMAGE, "args": ["train.py"]}, "the absolute path of a script in the image"),
        ({"image": IMAGE, "args": ["/app/../etc/x.py"]}, "'..'"),
        ({"image": IMAGE, "args": ["/app/a.py"], "trainScriptBootFile": "b.py"}, "give one of the two"),
        ({"image": IMAGE, "args": ["/app/a.py"], "algorithm": {"name": "b"}}, "give one of the two"),
        ({"image": IMAGE, "env": [{"name": "HELIOGRAPH_BUS", "value": "nats://x"}]}, "does not begin with HELIOGRAPH_"),
        ({"image": IMAGE, "env": [{"name": "A=B"}]}, "name"),
        ({"image": IMAGE, "env": [{"name": "A"}, {"name": "A"}]}, "two entries have the same name"),
        ({"image": IMAGE, "env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]}, "valueFrom"),
        ({"image": IMAGE, "volumes": [{"mountPath": "/a"}]}, "exactly one of hostPath, configMap and emptyDir"),
        ({"image": IMAGE, "volumes": [{"mountPath": "/a", "emptyDir": "", "configMap": "b"}]}, "exactly one of"),
        ({"image": IMAGE, "volumes": [{"mountPath": "/a", "hostPath": "/data/../etc"}]}, "without '..'"),
        ({"image": IMAGE, "volumes": [{"mountPath": "a", "emptyDir": ""}]}, "mountPath"),
        ({"image": IMAGE, "volumes": [{"mountPath": "/a", "configMap": "b", "writable": True}]}, "writable beside"),
        ({"image": IMAGE, "volumes": [{"mountPath": "/a", "emptyDir": ""}] * 2}, "the same mountPath"),
        ({"image": IMAGE, "resources": {"cpu": "two"}}, "cpu"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused_in_a_sentence(document: dict[str, Any], expected: str) -> None:
    assert expected in _refusal(WorkerSpec, document)


def test_a_service_runs_a_script_of_its_image_or_serves_a_file_in_it() -> None:
    model = {"model": {"name": "m"}, "image": IMAGE}
    assert InferenceScript.model_validate({**model, "args": ["/app/serve.py"]}).image_script == ("/app/serve.py",)
    assert InferenceScript.model_validate({**model, "format": "onnx"}).image_script == ()
    assert "no script in an image" in _refusal(InferenceScript, model)
    assert "runs no code" in _refusal(InferenceScript, {**model, "format": "onnx", "args": ["/app/serve.py"]})


def test_a_job_whose_edges_decide_by_themselves_has_pods_too() -> None:
    learned = {"model": {"name": "m"}, "workerSpec": {"image": IMAGE, "args": ["/app/learn.py"]}}
    for location in ("cloud", "edge"):
        document = {"metadata": {"name": "job"}, "spec": {"models": [learned], "location": location}}
        assert IncrementalLearningJob.model_validate(document).spec.models[0].worker_spec.image == IMAGE
