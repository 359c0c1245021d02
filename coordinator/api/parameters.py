"""The parameters of a document: check them against the schemas that agents report, and hand their values to workers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.resources.base import Parameter, Scalar
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
class NamedChoice:
    """An algorithm or rule that a document names, with its parameters.

    Attributes:
        what: ``algorithm`` or ``rule``.
        field: path of the name in the document.
        place: path of the parameters in the document.
    """

    what: str
    name: str
    field: str
    parameters: Sequence[Parameter]
    place: str


def check_offered(choice: NamedChoice, offered: Schemas, topic: str) -> None:
    """Raise Refused for a name or a parameter that the node does not offer. Accept all while it has reported none.

    Args:
        offered: the offers of the node that decides: the one that aggregates, or serves the deep model.
    """
    if not offered:
        return
    if choice.name not in offered:
        raise Refused(f"unknown-{choice.what}", topic=topic, field=choice.field,
                      expected=f"one of {', '.join(sorted(offered))}", got=choice.name)  # fmt: skip
    known = offered[choice.name].get("properties", {})
    required = offered[choice.name].get("required", [])
    given = {each.key for each in choice.parameters if each.value is not None}
    for name in sorted(required if isinstance(required, list) else ()):
        if name not in given:
            raise Refused("missing-parameter", topic=topic, field=choice.place,
                          expected=f"parameter {name}, which {choice.name} needs", got="none")  # fmt: skip
    for number, parameter in enumerate(choice.parameters):
        if parameter.key not in known:
            expected = f"one of {', '.join(sorted(known))}" if known else f"no parameter: {choice.name} has none"
            raise Refused("unknown-parameter", topic=topic, field=f"{choice.place}[{number}].key", expected=expected,
                          got=parameter.key)  # fmt: skip
        _check_value(parameter.value, known[parameter.key], f"{choice.place}[{number}].value", topic)


def values_of(parameters: Sequence[Parameter]) -> dict[str, Scalar]:
    """Return the parameters with a value; the others take their defaults."""
    return {each.key: each.value for each in parameters if each.value is not None}


def _check_value(value: object, schema: dict[str, Any], field: str, topic: str) -> None:
    """Check the part of JSON Schema that parameters use: type and bounds."""
    if value is None:
        return
    options: list[dict[str, Any]] = schema.get("anyOf", [schema])
    option: dict[str, Any] = next((each for each in options if each.get("type") != "null"), {})
    right = isinstance(value, _TYPES.get(option.get("type", ""), (object,)))
    if isinstance(value, bool):
        right = option.get("type") in ("boolean", None)
    bounds = [f"{words} {option[name]}" for name, words, _ in _BOUNDS if name in option]
    if not right or any(name in option and not holds(value, option[name]) for name, _, holds in _BOUNDS):
        raise Refused("invalid", topic=topic, field=field, expected=" ".join([option.get("type", "a value"), *bounds]),
                      got=value)  # fmt: skip
