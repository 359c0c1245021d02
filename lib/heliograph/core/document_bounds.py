"""Bounds of every document that arrives, in JSON, MessagePack or YAML alike.

Whatever passes can be stored, shown, sent on and read again: pydantic stops at 255 levels, MessagePack has 64-bit
integers, UTF-8 has no lone surrogates, and JSON has no infinity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from heliograph.core.errors import Refused

MAX_DEPTH = 100
"""Levels of mappings and lists inside each other."""
MAX_KEYS = 1 << 16
"""Keys of one mapping: a round may count ten thousand edges."""
MAX_CONTAINERS = 1 << 17
"""Mappings and lists of a document; each takes up to a hundred times its bytes in memory."""
MIN_INTEGER = -(1 << 63)
MAX_INTEGER = (1 << 64) - 1
"""The integers that MessagePack can carry."""

_CONTAINERS = frozenset((dict, list))
_JSON = json.JSONEncoder(allow_nan=False, check_circular=False)


def check_shape(tree: Any, topic: str, most_keys: int = MAX_KEYS) -> None:
    """Raise Refused, naming the topic, if a tree is too deep, or a mapping of it has more than ``most_keys`` keys."""
    level = [tree] if type(tree) in _CONTAINERS else []
    containers = 0
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for each in level:
            if type(each) is dict:
                if len(each) > most_keys:
                    raise _too_many(topic, f"{most_keys} keys in one mapping", len(each))
                each = each.values()
            if not _CONTAINERS.isdisjoint(map(type, each)):
                deeper += [value for value in each if type(value) in _CONTAINERS]
        if not deeper:
            return
        containers += len(deeper)
        if containers > MAX_CONTAINERS:
            raise _too_many(topic, f"{MAX_CONTAINERS} mappings and lists", "more")
        level = deeper
    raise Refused("too-deep", topic=topic, expected=f"at most {MAX_DEPTH} levels of mappings and lists", got="more")


def problems_in(tree: Any) -> Iterator[tuple[str, str, object]]:
    """Yield path, expectation and value of each value that a document cannot carry."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        field, value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    yield field, "keys that are text", key
                elif not _is_text(key):
                    yield field, "keys without lone surrogates", key
                waiting.append((f"{field}.{key}".lstrip("."), inner))
        elif isinstance(value, list):
            waiting += [(f"{field}[{place}]", inner) for place, inner in enumerate(value)]
        elif isinstance(value, str):
            if not _is_text(value):
                yield field, "text without lone surrogates", value
        elif isinstance(value, float):
            if value in (float("inf"), float("-inf")) or value != value:
                yield field, "a finite number", value
        elif value is not None and not isinstance(value, int):
            yield field, "a value that JSON has", value
        elif value is not None and not MIN_INTEGER <= value <= MAX_INTEGER:
            yield field, "an integer of at most 64 bits", value


def json_tree(tree: dict[str, Any]) -> dict[str, Any]:
    """Return ``tree``. Raise ValueError if it has a value that JSON does not, such as bytes or NaN."""
    try:
        _JSON.encode(tree)
        return tree
    except (ValueError, TypeError, RecursionError):
        pass
    for field, problem, _ in problems_in(tree):
        raise ValueError(f"expected {problem}{f' at {field[:200]}' if field else ''}")
    raise ValueError(f"expected at most {MAX_DEPTH} levels of mappings and lists")


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_many(topic: str, most: str, got: object) -> Refused:
    return Refused("too-large", topic=topic, expected=f"at most {most}", got=got)
