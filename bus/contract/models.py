"""Collect the pydantic models that travel, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.later import parts_of
from heliograph.core.errors import Refused


def models_of(roots: Iterable[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Return the roots and the models of their fields, by name, each before its parts.

    Raises Refused if two models have the same name: their schemas would collide.
    """
    found: dict[str, type[BaseModel]] = {}

    def visit(annotation: Any) -> None:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        if is_model and annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            for field in annotation.model_fields.values():
                visit(field.annotation)
        if is_model and found[annotation.__name__] is not annotation:
            both = found[annotation.__name__], annotation
            got = " and ".join(f"{each.__module__}.{each.__qualname__}" for each in both)
            raise Refused("exists", field=annotation.__name__, expected="one model of that name", got=got)
        for part in parts_of(annotation):
            visit(part)

    for root in roots:
        visit(root)
    return found
