"""Structural schemas: unknown fields go, defaults come, and what is wrong is said as Kubernetes says it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.kubernetes.api_server.failure import Cause

Schema = dict[str, Any]
ROOT = ("apiVersion", "kind", "metadata")
"""Fields of every object, which the server itself knows."""
_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "string": str,
}  # fmt: skip


def pruned(schema: Schema, value: Any, unknown: list[str], path: str = "") -> Any:
    """Return a value without the fields that its schema does not know, whose paths go to ``unknown``, and without
    nulls where none may be."""
    if isinstance(value, list):
        return [pruned(schema.get("items", {}), part, unknown, f"{path}[{i}]") for i, part in enumerate(value)]
    if not isinstance(value, dict):
        return value
    properties, values = schema.get("properties", {}), schema.get("additionalProperties")
    found = {}
    for name, part in value.items():
        where = f"{path}.{name}" if path else name
        if not path and name in ROOT:
            found[name] = part
        elif (known := properties.get(name, values if isinstance(values, dict) else None)) is not None:
            if part is not None or known.get("nullable"):
                found[name] = pruned(known, part, unknown, where)
        elif schema.get("x-kubernetes-preserve-unknown-fields") or values is True:
            found[name] = part
        else:
            unknown.append(where)
    return found


def with_defaults(schema: Schema, value: Any) -> Any:
    """Return a value with the defaults of the fields that it lacks."""
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), part) for part in value]
    if not isinstance(value, dict):
        return value
    properties, values = schema.get("properties", {}), schema.get("additionalProperties")
    found = dict(value)
    for name, known in properties.items():
        if name not in found and "default" in known:
            found[name] = json.loads(json.dumps(known["default"]))
    for name, part in found.items():
        known = properties.get(name, values)
        if isinstance(known, dict):
            found[name] = with_defaults(known, part)
    return found


def causes(schema: Schema, value: Any, path: str = "") -> Iterator[Cause]:
    """Yield what is wrong with a value."""
    kind = schema.get("type")
    if kind is None or (value is None and schema.get("nullable")):
        return
    if not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        got = json.dumps(_type(value))
        message = f"Invalid value: {got}: {path} in body must be of type {kind}: {got}"
        yield Cause("FieldValueTypeInvalid", message, path)
        return
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(json.dumps(each) for each in schema["enum"])
        message = f"Unsupported value: {json.dumps(value)}: supported values: {allowed}"
        yield Cause("FieldValueNotSupported", message, path)
    match kind:
        case "integer" | "number":
            yield from _of_number(schema, value, path)
        case "string":
            yield from _of_string(schema, value, path)
        case "array":
            yield from _of_list(schema, value, path)
        case "object":
            yield from _of_object(schema, value, path)


def _of_number(schema: Schema, value: float, path: str) -> Iterator[Cause]:
    for bound, word, wrong in (("minimum", "greater", lambda limit: value < limit),
                               ("maximum", "less", lambda limit: value > limit)):  # fmt: skip
        limit = schema.get(bound)
        exclusive = schema.get(f"exclusiveM{bound[1:]}", False)
        if limit is not None and (wrong(limit) or (exclusive and value == limit)):
            than = f"{word} than{'' if exclusive else ' or equal to'} {limit}"
            yield Cause("FieldValueInvalid", f"Invalid value: {value}: {path} in body should be {than}", path)


def _of_string(schema: Schema, value: str, path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxLength", 1 << 40):
        yield Cause("FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes", path)
    if len(value) < schema.get("minLength", 0):
        yield Cause("FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {path} in body should be at least"
                    f" {schema['minLength']} chars long", path)  # fmt: skip
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield Cause("FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {path} in body should match"
                    f" '{schema['pattern']}'", path)  # fmt: skip


def _of_list(schema: Schema, value: list[Any], path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxItems", 1 << 40):
        yield Cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {schema['maxItems']} items", path)
    if len(value) < schema.get("minItems", 0):
        yield Cause("FieldValueInvalid", f"Invalid value: {len(value)}: {path} in body should have at least"
                    f" {schema['minItems']} items", path)  # fmt: skip
    for number, part in enumerate(value):
        yield from causes(schema["items"], part, f"{path}[{number}]")
    if schema.get("x-kubernetes-list-type", "atomic") == "atomic":
        return
    keys, seen = schema.get("x-kubernetes-list-map-keys"), set[str]()
    for number, part in enumerate(value):
        identity = {key: part.get(key) for key in keys} if keys and isinstance(part, dict) else part
        text = json.dumps(identity, sort_keys=True)
        if text in seen:
            yield Cause("FieldValueDuplicate", f"Duplicate value: {text}", f"{path}[{number}]")
        seen.add(text)


def _of_object(schema: Schema, value: Schema, path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxProperties", 1 << 40):
        yield Cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {schema['maxProperties']} items",
                    path)  # fmt: skip
    properties, values = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            yield Cause("FieldValueRequired", "Required value", f"{path}.{name}" if path else name)
    for name, part in value.items():
        known = properties.get(name, values)
        if isinstance(known, dict):
            yield from causes(known, part, f"{path}.{name}" if path else name)


def _type(value: Any) -> str:
    if value is None:
        return "null"
    return next(name for name in ("boolean", "string", "integer", "number", "array", "object")
                if isinstance(value, _TYPES[name]))  # fmt: skip
