"""The packages of code that jobs and services run: what these wait for, and what their workers get. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from heliograph.bus.contract.parameter_schema import defaults_of
from heliograph.bus.contract.payloads import PackageSpec
from heliograph.bus.contract.resources import Algorithm, PinnedPackage
from heliograph.bus.contract.resources.base import Parameter, Resource, RunsCode
from heliograph.coordinator.api.parameters import NamedChoice, check_offered
from heliograph.coordinator.edges.view import View
from heliograph.core.errors import Refused


def names_of(resource: Resource) -> list[str]:
    """Return the Algorithms whose packages a resource's workers run, sorted."""
    return sorted({each.algorithm.name for each in resource.code_workers.values() if each.algorithm is not None})


def missing_packages(resource: Resource, view: View) -> Iterator[str]:
    """Yield why a resource's workers cannot begin with their packages, a sentence each."""
    for name in names_of(resource):
        algorithm = view.packages.get(name)
        if algorithm is None or algorithm.spec.package is None:
            yield f"algorithm {name} does not exist, or is no package"
        elif algorithm.status.available != algorithm.spec.package.digest:
            told = next((each for each in algorithm.status.conditions if each.type == "Ready"), None)
            yield f"algorithm {name}: {told.message if told is not None else 'its package is not proven yet'}"
    try:
        check_parameters(resource, view.packages, "")
    except Refused as error:
        yield str(error)


def check_parameters(resource: Resource, packages: Mapping[str, Algorithm], topic: str) -> None:
    """Raise Refused, with ``topic`` and the field, for a parameter of a worker that its package does not declare.
    A package that declares none takes any, and so does one that is not known yet."""
    for place, worker in resource.code_workers.items():
        algorithm = packages.get(worker.algorithm.name) if worker.algorithm is not None else None
        if algorithm is None or not algorithm.spec.parameters or not worker.parameters:
            continue
        choice = NamedChoice("algorithm", algorithm.name, f"{place}.algorithm.name", worker.parameters,
                             f"{place}.parameters")  # fmt: skip
        check_offered(choice, {algorithm.name: {"properties": algorithm.spec.parameters}}, topic)


def check_unused(algorithm: Algorithm, resources: Iterable[Resource], topic: str) -> None:
    """Raise Refused where a resource runs an Algorithm that is to be deleted."""
    for each in resources:
        if algorithm.name in names_of(each):
            raise Refused("in-use", topic=topic, field="name", expected="an algorithm that nothing runs",
                          got=f"{algorithm.name}, which {each.plural}/{each.name} runs",
                          hint=f"Stop or delete {each.plural}/{each.name} first.")  # fmt: skip


def pinned(names: Iterable[str], view: View) -> dict[str, PinnedPackage]:
    """Return the present packages of these Algorithms by name, without those that have none."""
    found = {}
    for name in names:
        algorithm = view.packages.get(name)
        if algorithm is None or (package := algorithm.spec.package) is None:
            continue
        defaults = defaults_of(algorithm.spec.parameters)
        found[name] = PinnedPackage(
            digest=package.digest, size=package.size, framework=package.framework,
            defaults=[Parameter(key=key, value=value) for key, value in defaults.items()], signature=package.signature,
        )  # fmt: skip
    return found


def signed_since(packages: dict[str, PinnedPackage], view: View) -> dict[str, PinnedPackage]:
    """Return pinned packages with the newest signatures: an operator may sign what waits for him."""
    found = packages
    for name, package in packages.items():
        algorithm = view.packages.get(name)
        newest = algorithm.spec.package if algorithm is not None else None
        if newest is not None and newest.digest == package.digest and newest.signature != package.signature:
            found = {**found, name: package.model_copy(update={"signature": newest.signature})}
    return found


def package_of(worker: RunsCode, packages: Mapping[str, PinnedPackage], arguments: Sequence[str]) -> PackageSpec | None:
    """Return the package that a worker names itself, as its agent gets it."""
    if worker.algorithm is None or (package := packages.get(worker.algorithm.name)) is None:
        return None
    return PackageSpec(algorithm=worker.algorithm.name, digest=package.digest, size=package.size,
                       arguments=list(arguments), signature=package.signature)  # fmt: skip


def with_defaults(worker: RunsCode, packages: Mapping[str, PinnedPackage]) -> list[Parameter]:
    """Return a worker's parameters, and its package's defaults for those that it does not give."""
    package = packages.get(worker.algorithm.name) if worker.algorithm is not None else None
    given = {each.key for each in worker.parameters}
    defaults = [each for each in package.defaults if each.key not in given] if package is not None else []
    return [*defaults, *worker.parameters]
