"""JSON schemas of all payloads and resources, with descriptions from the models' docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, RootModel
from pydantic.json_schema import models_json_schema

from heliograph.bus.contract.models import models_of
from heliograph.bus.contract.registry import Registry

SCHEMAS = "#/components/schemas/"
"""Prefix of a schema's ``$ref``."""


@cache
def models(registry: Registry) -> dict[str, type[BaseModel]]:
    """Return every model by name: payloads in the registry's order, then resources, then those of requests,
    each before its parts."""
    return models_of(registry.models)


@cache
def schemas(registry: Registry) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each model, by name, with descriptions from the docstrings."""
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
    """Return the JSON schema of the envelope's attributes; the topic's payload describes ``data``."""
    attributes = {
        "id": "Unique within the source.",
        "source": "`<edge>/<component>/<incarnation>`; a restarted process is a new source.",
        "type": "Kind of event, such as `heliograph.model-update.v1`.",
        "time": "RFC 3339, UTC.",
        "subject": "Its topic, below the root.",
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
                "type": ["integer", "string"],
                "minimum": 1,
                "pattern": "^0*[0-9]{1,18}$",
                "description": "The producer's own number, from 1 without a gap; set where the producer wants an "
                "acknowledgement. CloudEvents' sequence extension writes it as a string.",
            },
            "datacontenttype": {
                "type": "string",
                "description": "Media type of `data`; `application/json` where it is missing.",
            },
            "anomaly": {
                "type": "string",
                "description": "What was wrong with `sequence` when a node's agent took the event: `gap`, `late`, "
                "`reused`, `replaced` or `unreadable`.",
            },
            "replayed": {
                "type": "boolean",
                "description": "True where the event was replayed from a trace.",
            },
        },
    }


def _documentation(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """Return a model's description and those of its fields, from ``Attributes:`` and from the strings after fields."""
    text, _, attributes = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    fields: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base.__qualname__.isidentifier() and base not in (BaseModel, RootModel):
            fields |= _strings_after_fields(base)
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(attributes).strip()):
        names, colon, doc = entry.partition(": ")
        if colon:
            fields |= dict.fromkeys(names.split(", "), _one_line(doc))
    return _one_line(text), fields


def _strings_after_fields(model: type[BaseModel]) -> dict[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for each in zip(definition.body, definition.body[1:], strict=False):
        match each:
            case ast.AnnAssign(target=ast.Name(id=field)), ast.Expr(value=ast.Constant(value=str(text))):
                found[field] = _one_line(text)
    return found


@cache
def resource_models(registry: Registry) -> tuple[str, ...]:
    """Return the names of the models that occur in resources only, not in payloads."""
    carried: set[str] = set()

    def visit(name: str) -> None:
        if name not in carried:
            carried.add(name)
            for part in re.findall(rf"'{SCHEMAS}(\w+)'", repr(schemas(registry)[name])):
                visit(part)

    for topic in registry.topics:
        visit(topic.payload.__name__)
    return tuple(name for name in models(registry) if name not in carried)


def _one_line(text: str) -> str:
    text = " ".join(text.split()).replace("``", "`")
    return text[:1].upper() + text[1:]
