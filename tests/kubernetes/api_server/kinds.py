"""The kinds that the API server has from the beginning, and those that definitions add."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """A kind that is served.

    Attributes:
        status: whether its status is a subresource.
        schema: its structural schema; None for kinds that are part of the server, whose documents are not checked.
        unconditional: whether it may be replaced without a ``resourceVersion``.
        columns: additional printer columns.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = True
    schema: Object | None = None
    unconditional: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Object, ...] = field(default=(), hash=False, compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The key of a kind: the plural and the group, whatever the version."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACES = Served("", "v1", "namespaces", "Namespace", namespaced=False, short_names=("ns",))
JOBS = Served("batch", "v1", "jobs", "Job")
EVENTS = Served("", "v1", "events", "Event", status=False, short_names=("ev",))
DEFINITIONS = Served("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
                     namespaced=False, unconditional=False, short_names=("crd", "crds"))  # fmt: skip
PODS = Served("", "v1", "pods", "Pod", short_names=("po",))
BUILT_IN = (
    NAMESPACES,
    EVENTS,
    JOBS,
    DEFINITIONS,
    PODS,
    Served("", "v1", "nodes", "Node", namespaced=False, short_names=("no",)),
    Served("", "v1", "configmaps", "ConfigMap", status=False, short_names=("cm",)),
    Served("", "v1", "secrets", "Secret", status=False),
    Served("coordination.k8s.io", "v1", "leases", "Lease", status=False),
)


def of_definition(definition: Object) -> list[Served]:
    """Return the kinds that a CustomResourceDefinition adds, one for each served version."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        Served(
            spec["group"], version["name"], names["plural"], names["kind"], spec["scope"] == "Namespaced",
            "status" in version.get("subresources", {}), version["schema"]["openAPIV3Schema"], False,
            tuple(names.get("shortNames", ())), tuple(names.get("categories", ())),
            tuple(version.get("additionalPrinterColumns", ())),
        )
        for version in spec["versions"] if version["served"]
    ]  # fmt: skip
