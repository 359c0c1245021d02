"""Which version brought a field: a document is written with what its reader knows.

A field that is added to a payload is declared by ``added``. It is optional, and written only where it says something,
so that a feature that nobody uses reaches no reader of an earlier version. Where it is used, whoever writes for one
reader leaves out what is newer than that reader: ``left_out``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, get_args

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

Version = tuple[int, int]
FLOOR: Version = (0, 1)
"""The oldest version that is written for. Fields without a version of their own are as old."""

_NUMBERS = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")
SINCE = "x-since"
"""Where a field's schema says which version brought it."""


def added(since: str, default: Any = None, *, default_factory: Callable[[], Any] | None = None) -> Any:
    """A field that version ``since`` brought, for the body of a payload's class: ``bits: int = added("0.3", 32)``.

    Args:
        default: what its absence means; for as long as the field lives.
        default_factory: makes the default, where it is a list or a mapping.
    """
    extra: dict[str, Any] = {SINCE: since}
    if default_factory is not None:
        make = default_factory
        return Field(default_factory=make, exclude_if=lambda value: value == make(), json_schema_extra=extra)
    return Field(default, exclude_if=lambda value: value == default, json_schema_extra=extra)


@lru_cache(maxsize=1024)
def parse_version(text: str) -> Version:
    """The version that a program reported; ``FLOOR`` where it reported none that can be read."""
    found = _NUMBERS.match(text)
    return (int(found[1]), int(found[2])) if found is not None else FLOOR


def since_of(field: FieldInfo) -> Version:
    """The version that brought a field."""
    extra = field.json_schema_extra
    return parse_version(str(extra[SINCE])) if isinstance(extra, dict) and SINCE in extra else FLOOR


@cache
def left_out(model: type[BaseModel], reader: Version) -> dict[str, Any] | None:
    """What to exclude from a payload for a reader of that version, as pydantic's ``exclude``; None: nothing.

    The same object for all readers that know the same: whether a document has to be written anew is a comparison.
    """
    newest = max((each for each in _versions(model, frozenset()) if each <= reader), default=FLOOR)
    return _left_out(model, newest)


@cache
def _left_out(model: type[BaseModel], reader: Version) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if since_of(field) > reader:
            found[name] = True
        elif part := _inside(field.annotation, reader):
            found[name] = part
    return found or None


def _inside(annotation: Any, reader: Version) -> dict[str, Any] | None:
    """What to exclude from a field's value: from each of its entries, where it has some."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _left_out(annotation, reader)
    parts: dict[str, Any] = {}
    for each in get_args(annotation):
        parts = _merged(parts, _inside(each, reader) or {})
    if parts and getattr(annotation, "__origin__", None) in (list, tuple, dict):
        return {"__all__": parts}
    return parts or None


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both, for a value that may be of either model: a field bears one meaning, and so one version, in all of them."""
    both = {key: _merged(one[key], other[key]) for key in one.keys() & other.keys() if isinstance(one[key], dict)}
    return one | other | both


def _versions(annotation: Any, above: frozenset[type]) -> Iterator[Version]:
    """The versions that brought the fields of a model and of all it is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in above:
            for field in annotation.model_fields.values():
                yield since_of(field)
                yield from _versions(field.annotation, above | {annotation})
        return
    for each in get_args(annotation):
        yield from _versions(each, above)
