"""Attributes of samples and of tasks, such as ``{"site": "roof", "season": "winter"}``: which belong together. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heliograph.core.errors import Refused

MAX_ATTRIBUTES = 16
MAX_TEXT = 128
Attributes = Mapping[str, str]


def attributes_of(value: object, field: str = "attributes") -> dict[str, str]:
    """Return attributes in the one form that is compared: sorted names, each with a text.

    Numbers and booleans become texts, and None means that a sample has none. Raise Refused for anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _refused(field, "a mapping of names to texts, numbers or booleans", type(value).__name__)
    if len(value) > MAX_ATTRIBUTES:
        raise _refused(field, f"at most {MAX_ATTRIBUTES} attributes", len(value))
    found = {}
    for name, each in value.items():
        each = each.item() if hasattr(each, "item") and getattr(each, "ndim", 0) == 0 else each
        if not isinstance(name, str) or not name or len(name) > MAX_TEXT:
            raise _refused(field, f"names of 1 to {MAX_TEXT} characters", name)
        if not isinstance(each, (str, int, float, bool)) or len(text := _text(each)) > MAX_TEXT:
            raise _refused(f"{field}.{name}", f"a text of at most {MAX_TEXT} characters, a number or a boolean", each)
        found[name] = text
    return dict(sorted(found.items()))


def agree(task: Attributes, sample: Attributes) -> bool:
    """Return whether a sample may belong to a task: each attribute that both have has one value."""
    return all(sample.get(name, value) == value for name, value in task.items())


def written(attributes: Attributes) -> bytes:
    """Return attributes as the bytes that lie in a model's file."""
    return json.dumps(dict(attributes), ensure_ascii=False, separators=(",", ":")).encode()


def read(content: bytes, field: str) -> dict[str, str]:
    """Return the attributes that bytes of a file name. Raise Refused where they name none."""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise _refused(field, "attributes as JSON", content, "bad-weights") from None
    return attributes_of(found, field)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _refused(field: str, expected: str, got: object, code: str = "bad-argument") -> Refused:
    return Refused(code, field=field, expected=expected, got=got)
