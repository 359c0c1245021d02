"""Custom resources as requests for resources, and resources as custom resources. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heliograph.bus.contract.custom_resources.definitions import GROUP, VERSION, plural_of
from heliograph.bus.contract.resources import Condition, Resource
from heliograph.bus.contract.resources.base import API_VERSION
from heliograph.coordinator.api.status_board import ENTRIES_SHOWN, public_document, shortened
from heliograph.coordinator.kubernetes.api import Kind, Object

FINALIZER = f"{GROUP}/heliograph"
"""A custom resource stays until the resource that was made from it is gone."""
UID = f"{GROUP}/custom-resource"
"""The annotation of a resource with the uid of the custom resource that it was made from."""
MIRROR = f"{GROUP}/mirror-of"
"""The label of a custom resource that shows a resource made elsewhere: the resource's uid."""
OWNER = f"{GROUP}/owner"
"""The annotation of such a custom resource: who made the resource."""
CLOUD = f"{GROUP}/cloud"
"""The annotation of a custom resource with the id of the cloud that looks after it."""
MAX_STATUS = 80_000
"""Bytes of a resource's status, at most: with what the operator adds it stays below 100 kB, since the store of
Kubernetes is small."""
_NOT_OURS = ("kubectl.kubernetes.io/", f"{GROUP}/")
"""Beginnings of annotations that are none of the resource's."""


def custom_kind(kind: type[Resource]) -> Kind:
    """Return the kind of custom resource that a kind of resource is in Kubernetes."""
    return Kind(GROUP, VERSION, plural_of(kind.__name__), kind.__name__)


def request_document(custom: Object) -> dict[str, Any]:
    """Return the document by which the resource of a custom resource is created or updated."""
    metadata = custom["metadata"]
    annotations = {
        key: value for key, value in metadata.get("annotations", {}).items() if not key.startswith(_NOT_OURS)
    }
    return {
        "apiVersion": custom.get("apiVersion", API_VERSION),
        "kind": custom.get("kind", ""),
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": dict(metadata.get("labels", {})),
            "annotations": {**annotations, UID: metadata["uid"]},
        },
        "spec": custom.get("spec", {}),
    }


def mirror_of(resource: Resource, namespace: str, cloud: str) -> Object:
    """Return the custom resource that shows a resource made elsewhere, without its status."""
    public = public_document(resource)
    metadata = resource.metadata
    kept = {key: value for key, value in metadata.annotations.items() if not key.startswith(_NOT_OURS)}
    labels = {key: value for key, value in metadata.labels.items() if _is_label_value(value)}
    return {
        "apiVersion": API_VERSION,
        "kind": type(resource).__name__,
        "metadata": {
            "name": resource.name,
            "namespace": namespace,
            "labels": {**labels, MIRROR: metadata.uid},
            "annotations": {**kept, OWNER: metadata.created_by or "coordinator", CLOUD: cloud},
        },
        "spec": public.get("spec", {}),
    }


def shown_status(
    kind: type[Resource], resource: Resource | None, extra: Condition, generation: int, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the status of a custom resource: that of the resource, with a condition of the operator's own.

    Args:
        kind: the kind of the resource.
        resource: None where none has been made yet, or another one has the name.
        extra: the operator's condition; its transition time is now.
        generation: the custom resource's generation that the resource was made from.
        before: the present status, which tells since when the condition holds.
    """
    status = _fitting(public_document(resource).get("status", {})) if resource is not None else {}
    since = next(
        (each.get("lastTransitionTime", "") for each in before.get("conditions", ())
         if each.get("type") == extra.type and each.get("status") == extra.status),
        extra.last_transition_time,
    )  # fmt: skip
    own = {**extra.model_dump(by_alias=True), "lastTransitionTime": since}
    conditions = [*(each for each in status.get("conditions", ()) if each["type"] != extra.type), own]
    # an edge tells of a generation of its own: of the desired document that its agent has taken
    observed = {} if "observed_generation" in kind.model_fields["status"].annotation.model_fields else {  # type: ignore[union-attr]
        "observedGeneration": generation
    }
    return {
        **observed,
        **status,
        "conditions": [{**each, "observedGeneration": generation} for each in conditions],
    }


def _fitting(status: dict[str, Any]) -> dict[str, Any]:
    """Return a status of at most ``MAX_STATUS`` bytes; ``shortened`` in it says what was cut."""
    for cut in (None, ENTRIES_SHOWN, ENTRIES_SHOWN // 10, 1):
        found = status if cut is None else shortened({"status": status}, cut)["status"]
        if len(json.dumps(found)) <= MAX_STATUS:
            return dict(found)
    return {key: status[key] for key in ("phase",) if key in status}


def _is_label_value(text: str) -> bool:
    """Return whether Kubernetes takes a text as the value of a label."""
    inner = text.replace("-", "").replace("_", "").replace(".", "")
    return not text or (
        len(text) <= 63 and inner.isascii() and inner.isalnum() and text[0].isalnum() and text[-1].isalnum()
    )
