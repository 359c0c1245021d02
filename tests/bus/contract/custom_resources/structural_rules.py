"""What Kubernetes demands of a custom resource's schema, from its documentation of apiextensions.k8s.io/v1.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.bus.contract.custom_resources.schema_validator import findings

KNOWN = {
    "additionalProperties", "default", "description", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "items",
    "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minimum", "nullable", "pattern",
    "properties", "required", "title", "type", "x-kubernetes-list-map-keys", "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
}  # fmt: skip
"""The words that need no further rules: none of allOf, anyOf, oneOf and not, and none that is forbidden."""
TYPES = {"array", "boolean", "integer", "number", "object", "string"}
FORMATS = {"byte", "date", "date-time", "double", "float", "int32", "int64", "uuid"}
BOUNDS = {
    "string": {"minLength", "maxLength", "pattern"}, "array": {"minItems", "maxItems"}, "object": {"maxProperties"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}, "boolean": set(), None: set(),
}  # fmt: skip
SCALARS = TYPES - {"array", "object"}


def broken_rules(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield each rule that a schema breaks, with the path of the part that breaks it."""
    kind = schema.get("type")
    if unknown := schema.keys() - KNOWN:
        yield f"{path}: {sorted(unknown)}, which no structural schema has"
    if kind not in TYPES and not (kind is None and schema.get("x-kubernetes-preserve-unknown-fields") is True):
        yield f"{path}: no type"
        return
    every = set().union(*BOUNDS.values())
    if foreign := (schema.keys() & every) - BOUNDS[kind]:
        yield f"{path}: {sorted(foreign)} of a {kind}"
    yield from _broken_bounds(schema, path)
    if kind == "object":
        yield from _broken_object(schema, path)
    if kind == "array":
        yield from _broken_list(schema, path)
    if "default" in schema:
        yield from (f"{path}: default: {each}" for each in findings(schema, schema["default"]))
    for rule in schema.get("x-kubernetes-validations", ()):
        if not rule.keys() <= {"rule", "message", "reason", "fieldPath", "optionalOldSelf", "messageExpression"}:
            yield f"{path}: {sorted(rule)} of a rule"
        if not rule["rule"].strip() or "\n" in rule["message"]:
            yield f"{path}: an empty rule, or a message of several lines"


def _broken_bounds(schema: dict[str, Any], path: str) -> Iterator[str]:
    for word in ("exclusiveMinimum", "exclusiveMaximum"):
        if word in schema and not (isinstance(schema[word], bool) and word.replace("exclusiveM", "m") in schema):
            yield f"{path}: {word} is a boolean beside its bound"
    if schema.get("format", "byte") not in FORMATS:
        yield f"{path}: format {schema['format']}, which is not known"
    if "enum" in schema and not (schema["enum"] and all(isinstance(each, str) for each in schema["enum"])):
        yield f"{path}: enum of no texts"
    if pattern := schema.get("pattern"):
        re.compile(pattern)
        repeats = (int(most) for most in re.findall(r",(\d+)}", pattern))
        if re.search(r"\(\?[=!<]|\\[1-9]", pattern) or any(most > 1000 for most in repeats):
            yield f"{path}: a pattern that RE2 does not have"


def _broken_object(schema: dict[str, Any], path: str) -> Iterator[str]:
    properties, values = schema.get("properties"), schema.get("additionalProperties")
    if properties is not None and values is not None:
        yield f"{path}: properties and additionalProperties exclude each other"
    if isinstance(values, bool):
        yield f"{path}: additionalProperties is a boolean"
    if missing := set(schema.get("required", ())) - (properties or {}).keys():
        yield f"{path}: required {sorted(missing)}, which it does not have"
    if "required" in schema and not schema["required"]:
        yield f"{path}: required is empty"
    for name, part in (properties or {}).items():
        yield from broken_rules(part, f"{path}.{name}")
    if isinstance(values, dict):
        yield from broken_rules(values, f"{path}[*]")


def _broken_list(schema: dict[str, Any], path: str) -> Iterator[str]:
    items = schema.get("items")
    if not isinstance(items, dict):
        yield f"{path}: a list without one schema of its items"
        return
    match schema.get("x-kubernetes-list-type", "atomic"):
        case "set":
            if items.get("type") not in SCALARS or items.get("nullable"):
                yield f"{path}: a set of what is no scalar"
        case "map":
            keys = schema.get("x-kubernetes-list-map-keys", [])
            for key in keys:
                part = items.get("properties", {}).get(key, {})
                if part.get("type") not in SCALARS or not (key in items.get("required", ()) or "default" in part):
                    yield f"{path}: the key {key} is no scalar, or neither required nor with a default"
            if not keys or len(set(keys)) < len(keys):
                yield f"{path}: a list by keys, without keys that differ"
    if schema.get("x-kubernetes-list-type") != "map" and "x-kubernetes-list-map-keys" in schema:
        yield f"{path}: keys of a list that is no map"
    yield from broken_rules(items, f"{path}[]")
