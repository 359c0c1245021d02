"""Checks that some agent's workers offer what a document names, with parameters that fit the schema they report."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.resources.base import Parameter
from heliograph.core.errors import Refused

Schemas = Mapping[str, Mapping[str, Any]]
_TYPES: dict[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,)}
_BOUNDS: list[tuple[str, str, Callable[[Any, Any], bool]]] = [
    ("minimum", "at least", operator.ge),
    ("exclusiveMinimum", "more than", operator.gt),
    ("maximum", "at most", operator.le),
    ("exclusiveMaximum", "less than", operator.lt),
]


@dataclass(frozen=True)
class Named:
    """What a document names: an algorithm, say, with the fields in which its name and its parameters stand."""

    what: str
    name: str
    field: str
    parameters: Sequence[Parameter]
    place: str


def check_offered(named: Named, offered: Schemas, topic: str) -> None:
    """Refuse a name, or a parameter, that no agent offers; while none has reported any, it is accepted."""
    if not offered:
        return
    if named.name not in offered:
        raise Refused(f"unknown-{named.what}", topic=topic, field=named.field,
                      expected=f"one of {', '.join(sorted(offered))}", got=named.name)  # fmt: skip
    known = offered[named.name].get("properties", {})
    for number, parameter in enumerate(named.parameters):
        if parameter.key not in known:
            expected = f"one of {', '.join(sorted(known))}" if known else f"no parameter: {named.name} has none"
            raise Refused("unknown-parameter", topic=topic, field=f"{named.place}[{number}].key", expected=expected,
                          got=parameter.key)  # fmt: skip
        _check_value(parameter.value, known[parameter.key], f"{named.place}[{number}].value", topic)


def _check_value(value: object, schema: dict[str, Any], field: str, topic: str) -> None:
    """The part of JSON Schema that parameters use: type and bounds."""
    if value is None:
        return
    options: list[dict[str, Any]] = schema.get("anyOf", [schema])
    option: dict[str, Any] = next((each for each in options if each.get("type") != "null"), {})
    right = isinstance(value, _TYPES.get(option.get("type", ""), (object,)))
    if isinstance(value, bool):
        right = option.get("type") in ("boolean", None)
    said = [f"{words} {option[name]}" for name, words, _ in _BOUNDS if name in option]
    if not right or any(name in option and not holds(value, option[name]) for name, _, holds in _BOUNDS):
        raise Refused("invalid", topic=topic, field=field, expected=" ".join([option.get("type", "a value"), *said]),
                      got=value)  # fmt: skip
