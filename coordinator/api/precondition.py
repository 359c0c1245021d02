"""Optimistic concurrency: who names the version that they have seen changes only what nobody else has changed since.

Without a version the last write wins. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from heliograph.bus.contract.resources import Resource
from heliograph.coordinator.api.status_board import public_document
from heliograph.core.errors import Refused, shorten

FIELD = "metadata.resourceVersion"
MOST_DIFFERENCES = 32
"""Fields that a conflict names with both values; its sentence names the first few."""
_IN_SENTENCE = 3
_ABSENT = "nothing"


def check_absent(wanted: Resource, topic: str) -> None:
    """Raise Refused where a resource is to be created, and its sender has seen one that is gone."""
    given = wanted.metadata.resource_version
    if given:
        raise Refused("conflict", topic=topic, field=FIELD, expected=f"no version: there is no {type(wanted).__name__} "
                      f"{wanted.name} any more", got=given,
                      hint=f"Leave {FIELD} out to create it anew.")  # fmt: skip


def check_update(known: Resource, wanted: Resource, topic: str) -> None:
    """Raise Refused, with both values of each field that differs, where spec, labels or annotations were changed since
    the version that ``wanted`` names. The steps of the coordinator, which change the status alone, are no conflict."""
    given, found = wanted.metadata, known.metadata
    if given.resource_version in ("", found.resource_version):
        return
    if given.uid and (given.uid, given.generation) == (found.uid, found.generation):
        return
    differences = [*islice(_differences(_owned(known), _owned(wanted), ""), MOST_DIFFERENCES)]
    told = "; ".join(f"{each['field']} is {each['stored']} there and {each['sent']} here"
                     for each in differences[:_IN_SENTENCE])  # fmt: skip
    more = f"; and {len(differences) - _IN_SENTENCE} fields more" if len(differences) > _IN_SENTENCE else ""
    raise Refused(
        "conflict", topic=topic, field=FIELD, expected=f"{found.resource_version}, the stored version",
        got=given.resource_version, hint=f"{told}{more}. Get it, and decide again on what it says now.",
        details={"differences": differences},
    )  # fmt: skip


def _owned(resource: Resource) -> dict[str, Any]:
    """Return the part of a resource that its owner writes, as a document."""
    tree = public_document(resource)
    metadata = {key: tree["metadata"][key] for key in ("labels", "annotations") if tree["metadata"].get(key)}
    return {"metadata": metadata, "spec": tree.get("spec", {})}


def _differences(stored: Any, sent: Any, field: str) -> Iterator[dict[str, str]]:
    """Yield path and both values, as text, of each field that differs."""
    if isinstance(stored, dict) and isinstance(sent, dict):
        for key in sorted({*stored, *sent}):
            yield from _differences(stored.get(key, _ABSENT), sent.get(key, _ABSENT), f"{field}.{key}".lstrip("."))
    elif isinstance(stored, list) and isinstance(sent, list) and len(stored) == len(sent):
        for number, (one, other) in enumerate(zip(stored, sent, strict=True)):
            yield from _differences(one, other, f"{field}[{number}]")
    elif stored != sent:
        yield {"field": field, "stored": shorten(stored), "sent": shorten(sent)}
