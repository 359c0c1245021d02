"""The resource language: documents in Kubernetes' shape that mean the same as a message, a file or a custom resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from heliograph.bus.errors import Refused, shorten
from heliograph.bus.resources.base import API_VERSION, Condition, Metadata, Resource, WeightsRef, condition
from heliograph.bus.resources.catalog import (
    Algorithm,
    Dataset,
    DatasetIndex,
    DatasetSpec,
    Edge,
    Model,
    ModelVersion,
)
from heliograph.bus.resources.federated_task import (
    CLOUD,
    ENDED,
    HISTORY,
    FederatedTask,
    FederatedTaskStatus,
    Refusal,
    RoundRecord,
    TrainingWorker,
)

__all__ = [
    "API_VERSION",
    "CLOUD",
    "ENDED",
    "HISTORY",
    "KINDS",
    "Algorithm",
    "Condition",
    "Dataset",
    "DatasetIndex",
    "DatasetSpec",
    "Edge",
    "FederatedTask",
    "FederatedTaskStatus",
    "Metadata",
    "Model",
    "ModelVersion",
    "Refusal",
    "Resource",
    "RoundRecord",
    "TrainingWorker",
    "WeightsRef",
    "condition",
    "dump",
    "parse_resource",
    "refusal_of",
]

KINDS: dict[str, type[Resource]] = {
    kind.__name__: kind for kind in (FederatedTask, Dataset, Model, Algorithm, Edge)
}


def parse_resource(tree: object, topic: str = "", plural: str | None = None) -> Resource:
    """The resource that a parsed document describes. Raises Refused naming ``topic`` and the first wrong field."""
    if not isinstance(tree, Mapping):
        raise Refused("invalid", topic=topic, expected="a mapping with apiVersion, kind, metadata and spec", got=tree)
    allowed = [name for name, kind in KINDS.items() if plural in (None, kind.plural)]
    kind = tree.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Refused("unknown-kind", topic=topic, field="kind", expected=" or ".join(allowed), got=kind)
    if kind not in allowed:
        raise Refused("wrong-kind", topic=topic, field="kind", expected=" or ".join(allowed), got=kind)
    if "metadata" in tree and "spec" not in tree and "spec" in KINDS[kind].model_fields:
        tree = {**tree, "spec": {}}
    try:
        return KINDS[kind].model_validate(tree)
    except ValidationError as error:
        raise refusal_of(error, topic) from None


def refusal_of(error: ValidationError, topic: str = "") -> Refused:
    """The first of pydantic's findings as a refusal; the hint counts the others."""
    findings = error.errors(include_url=False, include_context=False)
    first = findings[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    others = [".".join(str(part) for part in each["loc"]) for each in findings[1:6]]
    kind = first["type"]
    expected = {
        "extra_forbidden": "no such field",
        "missing": "a value",
    }.get(kind, first["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("expected "))
    return Refused(
        "unknown-field" if kind == "extra_forbidden" else "invalid",
        topic=topic,
        field=field,
        expected=expected,
        got="nothing" if kind == "missing" else shorten(first["input"]),
        hint=f"Also wrong: {', '.join(others)}." if others else "",
    )


def dump(document: BaseModel) -> dict[str, Any]:
    """A document as a tree for JSON, without what is unset."""
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)
