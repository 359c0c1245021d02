"""Lists as tables: the columns that ``kubectl get`` prints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.kubernetes.api_server.kinds import Served

Object = dict[str, Any]
AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def wanted(accept: str) -> bool:
    """Return whether a client asks for a table first."""
    return "as=Table" in accept.partition(",")[0]


def table(kind: Served, found: Object) -> Object:
    """Return a list, or one object, as a table."""
    columns = kind.columns or (AGE,)
    items = found.get("items", [found])
    return {
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": found["metadata"] if "items" in found else {},
        "columnDefinitions": [_definition({"name": "Name", "type": "string"}), *map(_definition, columns)],
        "rows": [{
            "cells": [each["metadata"]["name"], *(_cell(each, column) for column in columns)],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": each["metadata"]},
        } for each in items],
    }  # fmt: skip


def _definition(column: Object) -> Object:
    return {"name": column["name"], "type": column["type"], "format": "name" if column["name"] == "Name" else "",
            "description": column.get("description", ""), "priority": column.get("priority", 0)}  # fmt: skip


def _cell(given: Object, column: Object) -> Any:
    found: Any = given
    for name in column["jsonPath"].strip(".").split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is not None and column["type"] == "date":
        return f"{(datetime.now(UTC) - datetime.fromisoformat(found)).total_seconds():.0f}s"
    return found
