"""How a custom resource and the resource of its name are related: who owns the spec. Pure.

A spec has one owner. It is the custom resource where somebody created one, and the resource itself where it was made by
topics: then the custom resource is a mirror.
"""

from __future__ import annotations

from enum import Enum

from heliograph.bus.contract.resources import Resource
from heliograph.coordinator.authorization.managed import is_managed
from heliograph.coordinator.kubernetes.api import Object
from heliograph.coordinator.kubernetes.documents import CLOUD, FINALIZER, MIRROR, UID


class Relation(Enum):
    """What the operator finds under one name."""

    NOTHING = "neither is there"
    FOREIGN = "another cloud looks after the custom resource"
    NEW = "a custom resource, and no resource"
    OWN = "a resource that was made from the custom resource"
    REPLACED = "a resource that was made from an earlier custom resource of the name"
    TAKEN = "a custom resource, and a resource that was made elsewhere"
    LEAVING = "a custom resource that is being deleted, and the resource made from it"
    LEFT = "a custom resource that is being deleted, and that no resource depends on"
    ORPHAN = "a resource without the custom resource that it was made from"
    UNSHOWN = "a resource made elsewhere, without a mirror"
    MIRRORED = "a resource made elsewhere, and its mirror"
    STALE = "a mirror of a resource that is gone"


def relation_of(custom: Object | None, resource: Resource | None, namespace: str, cloud: str) -> Relation:
    """Return how a custom resource and a resource of one name are related.

    Args:
        resource: the resource of that name, of whatever project.
        namespace: the namespace of the custom resource, or the one in which the resource is to be shown.
        cloud: id of this operator's cloud.
    """
    managed = resource is not None and is_managed(resource)
    here = resource is not None and (resource.project or namespace) == namespace
    if custom is None:
        if resource is None or not here:
            return Relation.NOTHING
        return Relation.ORPHAN if managed else Relation.UNSHOWN
    metadata = custom["metadata"]
    if metadata.get("annotations", {}).get(CLOUD, cloud) != cloud:
        return Relation.FOREIGN
    made_from_it = managed and here and resource is not None and _uid_of(resource) == metadata["uid"]
    if "deletionTimestamp" in metadata:
        if FINALIZER not in metadata.get("finalizers", ()):
            return Relation.NOTHING
        return Relation.LEAVING if made_from_it else Relation.LEFT
    if (mirrored := metadata.get("labels", {}).get(MIRROR)) is not None:
        shown = resource is not None and here and not managed and resource.metadata.uid == mirrored
        return Relation.MIRRORED if shown else Relation.STALE
    if resource is None:
        return Relation.NEW
    if made_from_it:
        return Relation.OWN
    return Relation.REPLACED if managed and here else Relation.TAKEN


def _uid_of(resource: Resource) -> str:
    return resource.metadata.annotations.get(UID, "")
