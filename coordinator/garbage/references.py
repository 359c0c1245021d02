"""Find the blobs that a stored document names. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from heliograph.bus.contract.resources import Resource
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.names import is_digest


def named_blobs(resource: Resource) -> set[str]:
    """Return the digests that a resource needs: of every weights reference in it, and every digest in its spec, which
    its owner wrote. A digest by itself in a status is a record of what has been."""
    return {*_references(resource), *_digests(getattr(resource, "spec", None))}


def digests_in(part: Any) -> set[str]:
    """Return every digest in a document."""
    return set(_digests(part))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, WeightsRef):
        yield part.digest
    elif isinstance(part, BaseModel):
        for name in _fields(type(part)):
            yield from _references(getattr(part, name))
    else:
        for each in _entries(part):
            yield from _references(each)


@cache
def _fields(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the fields that may have a weights reference in them: a data set's status has an entry for each of ten
    thousand edges, and none."""
    return tuple(name for name, field in model.model_fields.items() if _may_refer(field.annotation, frozenset({model})))


_ANYTHING = (Any, object, BaseModel, dict, list, tuple)


def _may_refer(annotation: Any, above: frozenset[type]) -> bool:
    if annotation in _ANYTHING:
        return True
    if not isinstance(annotation, type) or get_args(annotation):
        return any(_may_refer(each, above) for each in get_args(annotation))
    if issubclass(annotation, WeightsRef):
        return True
    if not issubclass(annotation, BaseModel) or annotation in above:
        return False
    below = above | {annotation}
    return any(_may_refer(field.annotation, below) for field in annotation.model_fields.values())


def _digests(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        if is_digest(part):
            yield part
    elif isinstance(part, BaseModel):
        for _, value in part:
            yield from _digests(value)
    else:
        for each in _entries(part):
            yield from _digests(each)


def _entries(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        yield from part.values()
    elif isinstance(part, (list, tuple)):
        yield from part
