"""The names of a version's classes by their index, in the metadata of its file: whoever serves it answers by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from heliograph.bus.contract.resources.label_queue import MAX_CLASSES

CLASSES = "classes"
"""Key of the metadata."""


def written(names: Sequence[str]) -> dict[str, str]:
    """Return the metadata of a version with these classes; none where they have no names."""
    return {CLASSES: json.dumps(list(names), ensure_ascii=False)} if names else {}


def read(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of a version's classes; none where its file says none."""
    try:
        found = json.loads(metadata.get(CLASSES, "[]"))
    except (ValueError, RecursionError):
        return ()
    is_list = isinstance(found, list) and len(found) <= MAX_CLASSES and all(isinstance(each, str) for each in found)
    return tuple(found) if is_list else ()


def labels_with(own: tuple[Any, ...] | None, names: Sequence[str]) -> tuple[Any, ...] | None:
    """Return the labels of a version's classes: a script's own, as many as the version has, and after them its names.

    A script without labels of its own answers by indices, and one whose labels are others keeps them.
    """
    if own is None or not names or any(str(one) != name for one, name in zip(own, names, strict=False)):
        return own
    return (*own[: len(names)], *names[len(own) :])
