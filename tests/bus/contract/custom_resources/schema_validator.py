"""What an API server finds in a document by its kind's schema: the words that structural schemas have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "string": str,
}  # fmt: skip

_SIZES = {"array": "Items", "string": "Length"}
"""How the bounds of a size are called."""


def findings(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Yield what is wrong with a value, unknown fields too: kubectl refuses them before the API server prunes them."""
    kind = schema.get("type")
    if kind is None:
        return
    if not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        yield f"{path}: expected {kind}, got {value!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: expected one of {schema['enum']}, got {value!r}"
    if kind in ("integer", "number"):
        yield from _of_number(schema, value, path)
    elif kind == "object":
        yield from _of_object(schema, value, path)
    elif kind in _SIZES:
        if not schema.get("min" + _SIZES[kind], 0) <= len(value) <= schema.get("max" + _SIZES[kind], 1 << 40):
            yield f"{path}: {len(value)} of {_SIZES[kind]}"
        if kind == "string" and "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: expected {schema['pattern']}, got {value!r}"
        if kind == "array":
            yield from _of_list(schema, value, path)


def _of_number(schema: dict[str, Any], value: float, path: str) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        yield f"{path}: expected more than {low}, got {value}"
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        yield f"{path}: expected less than {high}, got {value}"


def _of_object(schema: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    if len(value) > schema.get("maxProperties", 1 << 40):
        yield f"{path}: {len(value)} fields"
    yield from (f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value)
    properties, values = schema.get("properties", {}), schema.get("additionalProperties")
    for name, part in value.items():
        if name in properties:
            yield from findings(properties[name], part, f"{path}.{name}")
        elif isinstance(values, dict):
            yield from findings(values, part, f"{path}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields") and path != ".metadata":
            yield f"{path}.{name}: unknown"


def _of_list(schema: dict[str, Any], value: list[Any], path: str) -> Iterator[str]:
    for number, part in enumerate(value):
        yield from findings(schema["items"], part, f"{path}[{number}]")
    keys = schema.get("x-kubernetes-list-map-keys")
    seen = [json.dumps([part.get(key) for key in keys] if keys else part) for part in value]
    if schema.get("x-kubernetes-list-type", "atomic") != "atomic" and len(set(seen)) < len(seen):
        yield f"{path}: an entry comes twice"
