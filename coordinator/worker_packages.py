"""The packages of code that the workers of jobs run in place of a script on their node. Pure."""

from __future__ import annotations

from heliograph.bus.contract.payloads import PackageSpec
from heliograph.bus.contract.resources.federated_task import WorkerSpec
from heliograph.coordinator.edges.view import View


def package_of(worker: WorkerSpec, view: View) -> PackageSpec | None:
    """Return the package that a worker names, as its agent gets it; None where it names none, or none is there."""
    algorithm = view.packages.get(worker.algorithm.name) if worker.algorithm is not None else None
    package = algorithm.spec.package if algorithm is not None else None
    if algorithm is None or package is None:
        return None
    return PackageSpec(algorithm=algorithm.name, digest=package.digest, size=package.size,
                       arguments=worker.train_script_arguments, signature=package.signature)  # fmt: skip


def missing_package(worker: WorkerSpec, view: View) -> str:
    """Return which package a worker names that is not there, in a sentence; empty where none is missing."""
    if worker.algorithm is None or package_of(worker, view) is not None:
        return ""
    return f"algorithm {worker.algorithm.name} does not exist, or is no package"
