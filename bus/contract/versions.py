"""Versions of payload fields: a writer leaves out the fields that its reader's version does not know.

Declare a new field of a payload by ``added``. The field is optional and is written only where it differs from its
default, so that readers of an earlier version never see an unused feature. Use ``left_out`` to write for one reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from heliograph.bus.contract.later import parts_of

Version = tuple[int, int]
FLOOR: Version = (0, 2)
"""The oldest version that may read; what has not reported a version counts as this one."""
FIRST: Version = (0, 1)
"""The version of fields without one of their own: documents of it are stored, and read for ever."""

_NUMBERS = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")
SINCE = "x-since"
"""Key in a field's schema: the version that added the field."""


def added(since: str, default: Any = None) -> Any:
    """Declare a field that version ``since`` added, in a payload's class: ``bits: int = added("0.3", 32)``.

    Args:
        default: the meaning of the field's absence, for as long as the field lives. Each payload gets a copy of a list
            or a mapping.
    """
    return Field(default, exclude_if=lambda value: value == default, json_schema_extra={SINCE: since})


@lru_cache(maxsize=1024)
def parse_version(text: str) -> Version:
    """Return the major and minor number of a reported version; ``FLOOR`` for text that is no version."""
    found = _NUMBERS.match(text)
    return (int(found[1]), int(found[2])) if found is not None else FLOOR


def since_of(field: FieldInfo) -> Version:
    """Return the version that added a field."""
    extra = field.json_schema_extra
    return parse_version(str(extra[SINCE])) if isinstance(extra, dict) and SINCE in extra else FIRST


@cache
def left_out(model: type[BaseModel], reader: Version) -> dict[str, Any] | None:
    """Return the fields that a reader of that version does not know, as pydantic's ``exclude``; None if it knows all.

    Readers that know the same fields share one object.
    """
    newest = max((each for each in _versions(model, frozenset()) if each <= reader), default=FIRST)
    return _left_out(model, newest, frozenset())


@cache
def _left_out(model: type[BaseModel], reader: Version, above: frozenset[type[BaseModel]]) -> dict[str, Any] | None:
    """Return what ``left_out`` does, for a model that lies within those above it.

    Raises:
        TypeError: a model that lies within itself has a newer field: no ``exclude`` reaches it at every depth.
    """
    if model in above:
        if any(each > reader for each in _versions(model, frozenset())):
            raise TypeError(f"{model.__name__} lies within itself: none of its fields may have a version of its own")
        return None
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if since_of(field) > reader:
            found[name] = True
        elif part := _inside(field.annotation, reader, above | {model}):
            found[name] = part
    return found or None


def _inside(annotation: Any, reader: Version, above: frozenset[type[BaseModel]]) -> dict[str, Any] | None:
    """Return the part of ``exclude`` for a field's value; for a list or mapping, the part of each entry."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _left_out(annotation, reader, above)
    parts: dict[str, Any] = {}
    for each in parts_of(annotation):
        parts = _merged(parts, _inside(each, reader, above) or {})
    if parts and getattr(annotation, "__origin__", None) in (list, tuple, dict):
        return {"__all__": parts}
    return parts or None


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Merge the parts of two models, for a value of either: a field has one version in all models."""
    both = {key: _merged(one[key], other[key]) for key in one.keys() & other.keys() if isinstance(one[key], dict)}
    return one | other | both


def _versions(annotation: Any, above: frozenset[type]) -> Iterator[Version]:
    """Yield the versions that added the fields of a model and of its parts."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in above:
            for field in annotation.model_fields.values():
                yield since_of(field)
                yield from _versions(field.annotation, above | {annotation})
        return
    for each in parts_of(annotation):
        yield from _versions(each, above)
