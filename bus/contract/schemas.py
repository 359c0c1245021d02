"""JSON schemas of everything that travels, described by the models' own docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from heliograph.bus.contract.models import models_of
from heliograph.bus.contract.registry import Registry

SCHEMAS = "#/components/schemas/"
"""Where a schema's ``$ref`` points."""


@cache
def models(registry: Registry) -> dict[str, type[BaseModel]]:
    """Every model that travels, by name: payloads in the registry's order, then resources, each before its parts."""
    return models_of((*(topic.payload for topic in registry.topics), *registry.kinds.values()))


@cache
def schemas(registry: Registry) -> dict[str, dict[str, Any]]:
    """Model name to JSON schema, described by the models' docstrings."""
    named = models(registry)
    wanted: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in named.values()]
    _, tree = models_json_schema(wanted, ref_template=SCHEMAS + "{model}")
    found: dict[str, dict[str, Any]] = tree["$defs"]
    for name, model in named.items():
        schema = found[name]
        schema["description"], documented = _documentation(model)
        for field, info in model.model_fields.items():
            part = schema.get("properties", {}).get(info.alias or field)
            if part is not None and field in documented:
                part["description"] = documented[field]
    return {name: found[name] for name in sorted(found)}


def cloud_event() -> dict[str, Any]:
    """The JSON schema of an envelope's attributes; ``data`` is left to the topic."""
    attributes = {
        "id": "Unique within the source.",
        "source": "`<edge>/<component>/<incarnation>`; a restarted process is a new source.",
        "type": "What it is, `heliograph.model-update.v1`.",
        "time": "RFC 3339, UTC.",
        "subject": "The topic it belongs to, below the root.",
        "traceparent": "W3C Trace Context.",
    }
    return {
        "title": "CloudEvent",
        "description": "The attributes of a CloudEvents 1.0 event.",
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"const": "1.0"},
            **{name: {"type": "string", "description": text} for name, text in attributes.items()},
            "sequence": {
                "type": "integer",
                "minimum": 1,
                "description": "The producer's own number, counted from 1 without a gap, where it wants an "
                "acknowledgement.",
            },
            "replayed": {
                "type": "boolean",
                "description": "It was recorded before, and is told again from a trace.",
            },
        },
    }


def _documentation(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """A model's own docstring, and those of its fields: its ``Attributes:`` section and the strings after fields."""
    text, _, attributes = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    fields: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            fields |= _strings_after_fields(base)
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(attributes).strip()):
        names, colon, doc = entry.partition(": ")
        if colon:
            fields |= dict.fromkeys(names.split(", "), one_line(doc))
    return one_line(text), fields


def _strings_after_fields(model: type[BaseModel]) -> dict[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for each in zip(definition.body, definition.body[1:], strict=False):
        match each:
            case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                found[field] = one_line(text)
    return found


@cache
def resource_models(registry: Registry) -> tuple[str, ...]:
    """What only resources hold: the rest stands among the payloads."""
    carried: set[str] = set()

    def visit(name: str) -> None:
        if name not in carried:
            carried.add(name)
            for part in re.findall(rf"'{SCHEMAS}(\w+)'", repr(schemas(registry)[name])):
                visit(part)

    for topic in registry.topics:
        visit(topic.payload.__name__)
    return tuple(name for name in models(registry) if name not in carried)


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")
