"""Values of Sedna's documents, most of which are text: parameters, amounts of memory, times of day."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from heliograph.bus.contract.resources.node_resources import memory_bytes

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_TIME = re.compile(r"([0-9]{1,2}):([0-5][0-9])(:[0-5][0-9])?")


def typed(value: Any) -> Any:
    """Return the value that a parameter's text stands for: ``"0.01"`` is a number, ``"007"`` is text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and abs(float(text)) < float("inf"):
        return float(text)
    return value


def memory(value: Any) -> str | None:
    """Return an amount of memory as our documents have it; None for one that they cannot say."""
    text = str(value)
    try:
        memory_bytes(text)
    except ValueError:
        return None
    return text


def time_of_day(value: Any) -> tuple[int, int] | None:
    """Return hour and minute of ``02:30``; ``24:00`` is the end of the day. None for what is no time.

    A number is what a tool with YAML 1.1 has made of an unquoted time: minutes.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return divmod(value, 60) if 0 <= value <= 24 * 60 else None
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None or (int(found[1]), int(found[2])) > (24, 0):
        return None
    return int(found[1]), int(found[2])


def as_written(tree: Any, node: yaml.Node) -> Any:
    """Return a document's values, with text where YAML 1.1 reads a number to the base 60, such as ``24:00``."""
    if isinstance(tree, Mapping) and isinstance(node, yaml.MappingNode):
        below = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        return {key: as_written(value, below[key]) if key in below else value for key, value in tree.items()}
    if isinstance(tree, list) and isinstance(node, yaml.SequenceNode):
        return [as_written(value, each) for value, each in zip(tree, node.value, strict=True)]
    if isinstance(tree, int | float) and isinstance(node, yaml.ScalarNode) and ":" in node.value:
        return node.value
    return tree
