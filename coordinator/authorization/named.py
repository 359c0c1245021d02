"""Check that whoever writes a resource may read what it names. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.resources import Algorithm, Dataset, Edge, LabelQueue, Model, Resource
from heliograph.bus.contract.resources.base import Reference
from heliograph.coordinator.authorization.rights import Rights
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused

_KINDS: Mapping[str, type[Resource]] = {
    "model": Model,
    "algorithm": Algorithm,
    "dataset": Dataset,
    "samples": Dataset,
    "public": Dataset,
    "held_out_samples": Dataset,
    "labels": LabelQueue,
    "node_name": Edge,
}
"""What a field of a spec names."""


def check_named(wanted: Resource, store: ResourceStore, rights: Rights, topic: str) -> None:
    """Raise Refused where a spec names a resource of a project that the caller may not read, or an edge that serves
    another project."""
    for path, kind, name in _named(getattr(wanted, "spec", None), "spec"):
        found = store.get(kind, name)
        if found is None:
            continue  # the resource waits for it
        if kind is Edge and found.project not in ("", wanted.project):
            raise Refused("not-found", topic=topic, field=path, got=name,
                          expected=f"an edge that serves project {wanted.project}")  # fmt: skip
        if not rights.sees(found):
            expected = f"one of the {kind.plural} of a project that {rights.name or 'this caller'} may read"
            raise Refused("not-found", topic=topic, field=path, expected=expected, got=name)


def _named(part: Any, path: str) -> Iterator[tuple[str, type[Resource], str]]:
    """Yield path, kind and name of each resource that a part of a spec names."""
    if isinstance(part, BaseModel):
        for field, declared in type(part).model_fields.items():
            value, kind, word = getattr(part, field), _KINDS.get(field), declared.alias or field
            name = value.name if isinstance(value, Reference) else value
            if kind is not None and isinstance(name, str):
                yield f"{path}.{word}", kind, name
            else:
                yield from _named(value, f"{path}.{word}")
    elif isinstance(part, list):
        for number, each in enumerate(part):
            yield from _named(each, f"{path}[{number}]")
