"""Valid trees of a pydantic model, drawn from its JSON schema: a new field or payload is fuzzed without a line here."""

from __future__ import annotations

import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from heliograph.simulations.input_fuzz.hostile_values import NUMBERS

MAX_LEVELS = 12
NAMES = ("edge-1", "edge-2", "m", "job-1", "cloud", "a", "x" * 63)
_LABEL, _DIGEST, _BUCKET = "[a-z0-9]([-a-z0-9]", "[0-9a-f]{64}", "[0-9]{1,3}"


def draw_valid(rng: random.Random, model: type[BaseModel]) -> Any:
    """Return a tree that the model is likely to accept."""
    schema = _schema_of(model)
    return _draw(rng, schema, schema.get("$defs", {}), 0)


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


@cache
def _weights() -> tuple[dict[str, Any], ...]:
    import numpy as np

    from heliograph.bus.contract.weights_file import dumps

    files = [dumps({"w": np.ones(count, np.float32), "b": np.zeros((1,), np.float64)}) for count in (1, 3)]
    inline = [{"digest": sha256(file).hexdigest(), "size": len(file), "inline": file} for file in files]
    large = {"digest": "a" * 64, "size": 300_000, "bucket": "uploads-edge-1"}
    return (*inline, {"digest": "0" * 64, "size": 77_000}, large)


def _draw(rng: random.Random, schema: Mapping[str, Any], defs: Mapping[str, Any], level: int) -> Any:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name == "WeightsRef":
            return dict(rng.choice(_weights()))
        return _draw(rng, defs[name], defs, level)
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return _draw(rng, rng.choice(schema[choices]), defs, level)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return _mapping(rng, schema, defs, level)
    if kind == "array":
        count = 0 if level > MAX_LEVELS else rng.choice((0, 1, 1, 2))
        count = max(count, schema.get("minItems", 0))
        return [_draw(rng, schema.get("items", {}), defs, level + 1) for _ in range(count)]
    if kind == "integer":
        return _number(rng, schema, int)
    if kind == "number":
        return _number(rng, schema, float)
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    if kind == "string":
        return _text(rng, schema)
    return rng.choice((None, 1, "text", {"a": 1}, [1, 2.5]))


def _mapping(rng: random.Random, schema: Mapping[str, Any], defs: Mapping[str, Any], level: int) -> dict[str, Any]:
    required = schema.get("required", ())
    found = {
        name: _draw(rng, inner, defs, level + 1)
        for name, inner in schema.get("properties", {}).items()
        if name in required or (level <= MAX_LEVELS and rng.random() < 0.6)
    }
    others = schema.get("additionalProperties")
    if isinstance(others, dict) or others is True:
        for _ in range(rng.choice((0, 1, 2))):
            key = _text(rng, schema.get("propertyNames", {}))
            found[key] = _draw(rng, others if others is not True else {}, defs, level + 1)
    return found


def _number(rng: random.Random, schema: Mapping[str, Any], kind: type[int] | type[float]) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    least, most = (low if low is not None else -1e308), (high if high is not None else 1e308)
    odd = [each for each in (*NUMBERS, low, high) if type(each) is kind and least <= each <= most]
    if rng.random() < 0.2 and odd:
        return kind(rng.choice(odd))
    first = int(low or 0) + 1
    return kind(rng.randint(first, max(first, min(int(most), first + 9))))


def _text(rng: random.Random, schema: Mapping[str, Any]) -> str:
    pattern = schema.get("pattern", "")
    if _DIGEST in pattern:
        return rng.choice("0af") * 64
    if _LABEL in pattern or not pattern:
        return rng.choice(NAMES)[: schema.get("maxLength", 63)]
    return str(rng.randint(0, 99)) if _BUCKET in pattern else "text"
