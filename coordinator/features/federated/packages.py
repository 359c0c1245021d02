"""The packages of training code that a federated task runs: what it waits for, and what its begin pins. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heliograph.bus.contract.parameter_schema import defaults_of
from heliograph.bus.contract.payloads import PackageSpec
from heliograph.bus.contract.resources import Algorithm, FederatedTask, PinnedPackage
from heliograph.bus.contract.resources.base import Parameter
from heliograph.bus.contract.resources.federated_task import WorkerSpec
from heliograph.coordinator.api.parameters import NamedChoice, check_offered
from heliograph.coordinator.edges.view import View
from heliograph.core.errors import Refused


def names_of(task: FederatedTask) -> list[str]:
    """Return the Algorithms whose packages a task runs, sorted."""
    workers = task.spec.training_workers
    return sorted({each.worker_spec.algorithm.name for each in workers if each.worker_spec.algorithm is not None})


def missing_packages(task: FederatedTask, view: View) -> Iterator[str]:
    """Yield why a task cannot begin with its packages, a sentence each."""
    for name in names_of(task):
        algorithm = view.packages.get(name)
        if algorithm is None or algorithm.spec.package is None:
            yield f"algorithm {name} does not exist, or is no package"
        elif algorithm.status.available != algorithm.spec.package.digest:
            told = next((each for each in algorithm.status.conditions if each.type == "Ready"), None)
            yield f"algorithm {name}: {told.message if told is not None else 'its package is not proven yet'}"
    try:
        check_parameters(task, view.packages, "")
    except Refused as error:
        yield str(error)


def check_parameters(task: FederatedTask, packages: Mapping[str, Algorithm], topic: str) -> None:
    """Raise Refused, with ``topic`` and the field, for a parameter of a worker that its package does not declare.
    A package that declares none takes any, and so does one that is not known yet."""
    for number, worker in enumerate(task.spec.training_workers):
        spec = worker.worker_spec
        algorithm = packages.get(spec.algorithm.name) if spec.algorithm is not None else None
        if algorithm is None or not algorithm.spec.parameters or not spec.parameters:
            continue
        place = f"spec.trainingWorkers[{number}].workerSpec"
        choice = NamedChoice("algorithm", algorithm.name, f"{place}.algorithm.name", spec.parameters,
                             f"{place}.parameters")  # fmt: skip
        check_offered(choice, {algorithm.name: {"properties": algorithm.spec.parameters}}, topic)


def pinned(task: FederatedTask, view: View) -> dict[str, PinnedPackage]:
    """Return the packages that a task which begins now runs until its end, by the name of their Algorithm."""
    found = {}
    for name in names_of(task):
        spec = view.packages[name].spec
        assert spec.package is not None
        found[name] = PinnedPackage(
            digest=spec.package.digest, size=spec.package.size, framework=spec.package.framework,
            defaults=[Parameter(key=key, value=value) for key, value in defaults_of(spec.parameters).items()],
            signature=spec.package.signature,
        )  # fmt: skip
    return found


def signed_since(task: FederatedTask, view: View) -> dict[str, PinnedPackage]:
    """Return a task's pinned packages with the newest signatures: an operator may sign what waits for him."""
    found = task.status.packages
    for name, package in task.status.packages.items():
        algorithm = view.packages.get(name)
        newest = algorithm.spec.package if algorithm is not None else None
        if newest is not None and newest.digest == package.digest and newest.signature != package.signature:
            found = {**found, name: package.model_copy(update={"signature": newest.signature})}
    return found


def package_of(task: FederatedTask, spec: WorkerSpec) -> PackageSpec | None:
    """Return the package that a worker names itself, as its agent gets it."""
    if spec.algorithm is None or (package := task.status.packages.get(spec.algorithm.name)) is None:
        return None
    return PackageSpec(
        algorithm=spec.algorithm.name, digest=package.digest, size=package.size,
        arguments=spec.train_script_arguments, signature=package.signature,
    )  # fmt: skip
