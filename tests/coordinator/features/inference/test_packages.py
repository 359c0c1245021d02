"""A service whose workers run packages: what it waits for, what it pins, and the tasks that its workers get."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.package_signature import sign_package
from heliograph.bus.contract.payloads import BigModelTask, Generation, InferTask, Report
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Algorithm, JointInferenceService, Metadata, Model
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.service_tasks import desired_tasks
from heliograph.coordinator.features.inference.totals import Totals
from heliograph.coordinator.packages import check_parameters, check_unused
from heliograph.core.errors import Refused
from heliograph.core.signing import Signer
from heliograph.core.world import World

NOW = "2026-01-01T00:00:00.000000Z"
DIGEST, NEWER = "a" * 64, "b" * 64
BAR = {"bar": {"type": "number", "default": 0.8, "maximum": 1}}


def _algorithm(digest: str = DIGEST, proven: bool = True, **package: Any) -> Algorithm:
    package = {"digest": digest, "size": 10, "entryPoint": "serve.py", "framework": "numpy", **package}
    made = parse_resource({"kind": "Algorithm", "metadata": {"name": "digits"},
                           "spec": {"package": package, "parameters": BAR}})  # fmt: skip
    assert isinstance(made, Algorithm)
    return made.model_copy(update={"status": made.status.model_copy(update={"available": digest if proven else ""})})


def _view(algorithm: Algorithm | None) -> View:
    edges = {name: EdgeView(name, True, Report(edge=name, observed=Generation())) for name in ("cloud", "edge-1")}
    models = {name: Model(metadata=Metadata(name=name)) for name in ("small", "deep")}
    return View(edges, models, {"digits": algorithm} if algorithm is not None else {})


def _service(generation: int = 1, **edge_worker: Any) -> JointInferenceService:
    edge = {"model": {"name": "small"}, "algorithm": {"name": "digits"}, **edge_worker}
    deep = {"model": {"name": "deep"}, "scriptBootFile": "deep.py"}
    found = parse_resource({"kind": "JointInferenceService", "spec": {"edgeWorker": edge, "cloudWorker": deep},
                            "metadata": {"name": "s", "uid": "uid", "generation": generation}})  # fmt: skip
    assert isinstance(found, JointInferenceService)
    return found


def _observed(service: JointInferenceService, algorithm: Algorithm | None) -> JointInferenceService:
    return joint_inference.observe(service, _view(algorithm), Totals(), NOW)


def _edge_task(service: JointInferenceService, algorithm: Algorithm | None) -> InferTask:
    (task,) = desired_tasks(service, _view(algorithm))["edge-1"]
    assert isinstance(task, InferTask)
    return task


@pytest.mark.parametrize(
    ("algorithm", "why"), [(None, "does not exist, or is no package"), (_algorithm(proven=False), "not proven yet")]
)
def test_a_service_waits_for_its_package_and_says_why(algorithm: Algorithm | None, why: str) -> None:
    service = _observed(_service(), algorithm)
    assert service.status.phase == "Pending"
    assert why in service.status.conditions[0].message
    assert desired_tasks(service, _view(algorithm)) == {}
    service = _observed(service, _algorithm())
    assert _edge_task(service, _algorithm()).package is not None


def test_its_workers_run_the_package_with_its_defaults() -> None:
    given = {"scriptArguments": ["--fast"], "parameters": [{"key": "mode", "value": "x"}]}
    service = _observed(_service(scriptArguments=["--fast"]), _algorithm())
    task = _edge_task(service, _algorithm())
    assert task.script is None
    assert task.package is not None
    assert (task.package.digest, task.package.arguments) == (DIGEST, ["--fast"])
    assert (task.parameters, task.framework) == ({"bar": 0.8}, "numpy")
    (deep,) = desired_tasks(service, _view(_algorithm()))["cloud"]
    assert isinstance(deep, BigModelTask)
    assert deep.script is not None
    assert (deep.script.boot_file, deep.package) == ("deep.py", None)
    with pytest.raises(Refused, match="expected one of bar, got mode"):
        check_parameters(_service(**given), _view(_algorithm()).packages, "request/services/create")


def test_it_keeps_the_package_it_began_with_until_it_is_started_anew_or_runs_something_else() -> None:
    service, newer = _observed(_service(), _algorithm()), _algorithm(NEWER)
    for seen in (newer, None):
        service = _observed(service, seen)
        assert service.status.packages["digits"].digest == DIGEST
        assert (package := _edge_task(service, seen).package) is not None
        assert package.digest == DIGEST
    again = _observed(joint_inference.start(joint_inference.stop(service)), newer)
    assert again.status.packages["digits"].digest == NEWER
    changed = _service(2, scriptArguments=["--slow"]).model_copy(update={"status": service.status})
    changed = _observed(joint_inference.update(service, changed), newer)
    assert changed.status.packages["digits"].digest == NEWER
    assert _edge_task(changed, newer).generation == 2


def test_starting_a_service_that_runs_changes_nothing() -> None:
    service = _observed(_service(), _algorithm())
    assert joint_inference.start(service) is service


def test_a_signature_that_comes_later_reaches_a_service_that_waits_for_it() -> None:
    service = _observed(_service(), _algorithm())
    signed = _algorithm(signature=sign_package(Signer.made(World()), "digits", DIGEST).model_dump(mode="json"))
    package = _edge_task(_observed(service, signed), signed).package
    assert package is not None
    assert package.signature is not None


def test_a_package_that_a_service_runs_is_not_deleted() -> None:
    service = _observed(_service(), _algorithm())
    with pytest.raises(Refused, match="digits, which services/s runs"):
        check_unused(_algorithm(), [service], "request/algorithms/delete")
    assert service.pinned_digests == {DIGEST}
    stopped = joint_inference.stop(service)
    check_unused(_algorithm(), [stopped], "request/algorithms/delete")
    assert not stopped.pinned_digests


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        ({"scriptBootFile": "edge.py"}, "give one of the two"),
        ({"algorithm": None}, "no scriptBootFile, no algorithm and no script in an image"),
    ],
)
def test_a_worker_names_a_package_or_a_script(worker: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        _service(**worker)
