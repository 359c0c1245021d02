"""A job whose workers run a package: what it waits for, what it pins, and the tasks that its edges get."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.package_signature import sign_package
from heliograph.bus.contract.payloads import EvaluateTask, Generation, Offer, Report, TrainTask
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Algorithm, Condition, DatasetIndex, FederatedTask, Metadata, Model
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated import steps
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.packages import check_parameters, check_unused
from heliograph.core.errors import Refused
from heliograph.core.signing import Signer
from heliograph.core.world import World

NOW = "2026-01-01T00:00:00.000000Z"
DIGEST, NEWER = "a" * 64, "b" * 64
RATE = {"rate": {"type": "number", "default": 0.1, "exclusiveMinimum": 0}, "layers": {"type": "integer", "default": 2}}


def _algorithm(digest: str = DIGEST, available: str | None = None, **spec: Any) -> Algorithm:
    package = {"digest": digest, "size": 10, "entryPoint": "train.py", "framework": "numpy", **spec}
    made = parse_resource({"kind": "Algorithm", "metadata": {"name": "digits"},
                           "spec": {"package": package, "parameters": RATE}})  # fmt: skip
    assert isinstance(made, Algorithm)
    return made.model_copy(
        update={"status": made.status.model_copy(update={"available": digest if available is None else available})}
    )


def _view(algorithm: Algorithm | None = None) -> View:
    def edge(name: str) -> EdgeView:
        report = Report(edge=name, observed=Generation(), datasets=[DatasetIndex(name="data", samples=10)],
                        offers=Offer(algorithms={"FedAvg": {}}))  # fmt: skip
        return EdgeView(name, True, report)

    packages = {"digits": algorithm} if algorithm is not None else {}
    edges = {name: edge(name) for name in ("cloud", "edge-1", "edge-2")}
    return View(edges, {"m": Model(metadata=Metadata(name="m"))}, packages)


def _task(first: dict[str, Any] | None = None, **spec: Any) -> FederatedTask:
    worker = {"algorithm": {"name": "digits"}, **(first or {})}
    workers = [{"name": "one", "nodeName": "edge-1", "workerSpec": worker}, {"name": "two", "nodeName": "edge-2"}]
    document = {"kind": "FederatedTask", "metadata": {"name": "j", "uid": "uid"}, "spec": {
        "aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": workers, **spec}}  # fmt: skip
    found = parse_resource(document)
    assert isinstance(found, FederatedTask)
    return found


def _begun(task: FederatedTask, view: View) -> FederatedTask:
    return federated.begin(task, view, NOW, 1)


def _waits(task: FederatedTask, view: View) -> str:
    found = _begun(task, view)
    assert found.status.phase == "Pending"
    return found.status.conditions[0].message


def test_a_job_waits_for_its_package_and_says_why() -> None:
    assert _waits(_task(), _view()) == "algorithm digits does not exist, or is no package"
    assert "not proven yet" in _waits(_task(), _view(_algorithm(available="")))
    told = Condition(type="Ready", status="False", reason="Missing", message="package aaa is not in the store yet")
    missing = _algorithm(available="")
    missing = missing.model_copy(update={"status": missing.status.model_copy(update={"conditions": [told]})})
    assert _waits(_task(), _view(missing)) == f"algorithm digits: {told.message}"


def test_every_worker_runs_the_package_and_gets_its_defaults() -> None:
    first = {"parameters": [{"key": "rate", "value": 0.5}], "trainScriptArguments": ["--fast"]}
    evaluation = {"dataset": {"name": "data"}}
    view = _view(_algorithm())
    task = _begun(_task(first, evaluationWorker=evaluation), view)
    tasks = {edge: each for edge, found in desired_tasks(task, view).items() for each in found
             if isinstance(each, TrainTask)}  # fmt: skip
    assert tasks.keys() == {"edge-1", "edge-2"}
    for each in tasks.values():
        assert each.script is None
        assert each.package is not None
        assert (each.package.digest, each.package.algorithm, each.package.arguments) == (DIGEST, "digits", ["--fast"])
        assert each.framework == "numpy"
        assert (each.parameters["rate"], each.parameters["layers"]) == (0.5, 2)  # as those of the first worker
    (measure,) = [each for each in desired_tasks(task, view)["cloud"] if isinstance(each, EvaluateTask)]
    assert measure.package == tasks["edge-1"].package


def test_a_worker_with_a_script_beside_one_with_a_package() -> None:
    view = _view(_algorithm())
    task = _task()
    second = task.spec.training_workers[1].model_copy(
        update={"worker_spec": task.spec.training_workers[0].worker_spec.model_copy(
            update={"algorithm": None, "train_script_boot_file": "own.py"})}
    )  # fmt: skip
    spec = task.spec.model_copy(update={"training_workers": [task.spec.training_workers[0], second]})
    task = _begun(task.model_copy(update={"spec": spec}), view)
    ((one,), (two,)) = (desired_tasks(task, view)[edge] for edge in ("edge-1", "edge-2"))
    assert isinstance(one, TrainTask)
    assert isinstance(two, TrainTask)
    assert (one.script, one.package is None) == (None, False)
    assert two.script is not None
    assert (two.script.boot_file, two.package) == ("own.py", None)
    assert "layers" not in two.parameters


def test_a_job_keeps_the_package_that_it_began_with() -> None:
    task = _begun(_task(), _view(_algorithm()))
    newer = _view(_algorithm(NEWER))
    assert federated.observe(task, newer, NOW).status.packages["digits"].digest == DIGEST
    gone = _view()
    assert federated.observe(task, gone, NOW).status.packages["digits"].digest == DIGEST


def test_a_signature_that_comes_later_reaches_a_job_that_waits_for_it() -> None:
    task = _begun(_task(), _view(_algorithm()))
    assert task.status.packages["digits"].signature is None
    signer = Signer.made(World())
    signed = _algorithm(signature=sign_package(signer, "digits", DIGEST).model_dump(mode="json"))
    task = federated.observe(task, _view(signed), NOW)
    (one,) = desired_tasks(task, _view(signed))["edge-1"]
    assert isinstance(one, TrainTask)
    assert one.package is not None
    assert one.package.signature is not None
    other = _algorithm(NEWER, signature=sign_package(signer, "digits", NEWER).model_dump(mode="json"))
    assert federated.observe(task, _view(other), NOW).status.packages == task.status.packages


@pytest.mark.parametrize(
    ("parameter", "code", "field"),
    [
        ({"key": "speed", "value": 1}, "unknown-parameter", "spec.trainingWorkers[0].workerSpec.parameters[0].key"),
        ({"key": "rate", "value": 0}, "invalid", "spec.trainingWorkers[0].workerSpec.parameters[0].value"),
        ({"key": "layers", "value": "two"}, "invalid", "spec.trainingWorkers[0].workerSpec.parameters[0].value"),
    ],
)
def test_a_parameter_that_the_package_does_not_take(parameter: dict[str, Any], code: str, field: str) -> None:
    task, view = _task({"parameters": [parameter]}), _view(_algorithm())
    with pytest.raises(Refused) as refused:
        check_parameters(task, view.packages, "request/jobs/create")
    assert (refused.value.code, refused.value.field) == (code, field)
    assert field in _waits(task, view)  # the package came after the job
    check_parameters(task, {}, "request/jobs/create")


def test_a_package_and_a_script_exclude_each_other() -> None:
    with pytest.raises(Refused, match="give one of the two"):
        _task({"trainScriptBootFile": "train.py"})


def test_a_package_that_a_job_runs_is_not_deleted() -> None:
    task, algorithm = _begun(_task(), _view(_algorithm())), _algorithm()
    with pytest.raises(Refused, match="digits, which jobs/j runs"):
        check_unused(algorithm, [task], "request/algorithms/delete")
    assert task.pinned_digests == {DIGEST}
    stopped = steps.stop(task, NOW)
    check_unused(algorithm, [stopped], "request/algorithms/delete")
    assert not stopped.pinned_digests
