"""Resources whose spec Kubernetes owns: only the operator changes and deletes them. Pure."""

from __future__ import annotations

from heliograph.bus.contract.resources import Resource
from heliograph.coordinator.authorization.rights import Rights
from heliograph.core.errors import Refused

_PREFIX = "kubernetes/"
"""Beginning of the creator of such a resource; no login has a slash."""


def creator_in(namespace: str) -> str:
    """Return the creator of resources that were made from the custom resources of a namespace."""
    return f"{_PREFIX}{namespace}"


def is_managed(resource: Resource) -> bool:
    """Return whether a resource was made from a custom resource."""
    return resource.metadata.created_by.startswith(_PREFIX)


def require_unmanaged(resource: Resource, rights: Rights, topic: str, managing: bool, deleting: bool = False) -> None:
    """Raise Refused where a custom resource owns the spec, and somebody else is to change it.

    Args:
        managing: whether the operator sees the custom resource at present.
        deleting: whether the resource is to be deleted; without a Kubernetes, somebody has to.
    """
    if not is_managed(resource) or rights.owns(resource):
        return
    if deleting and rights.operates and not managing:
        return
    kind, name, namespace = type(resource).__name__.lower(), resource.name, resource.metadata.created_by[len(_PREFIX):]
    command = "delete" if deleting else "edit"
    hint = f"Use: kubectl {command} {kind} {name} --namespace {namespace}."
    if deleting:
        hint += " An operator may delete it here while no coordinator sees the custom resource."
    raise Refused("managed", topic=topic, field="metadata.name", got=name, hint=hint,
                  expected="a resource that no custom resource owns")  # fmt: skip
