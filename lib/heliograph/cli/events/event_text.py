"""An event on one line: its topic's parameters, who sent it, and what its payload says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.cli.cells import size
from heliograph.core.names import is_digest

MOST = 240
"""Characters of a payload's summary."""
TEXT = 60
"""Characters of one text in it."""
SHOWN = 12
"""Digits of a digest in it."""
_SAID = frozenset(("job", "job_uid", "service", "service_uid", "edge", "worker", "next_sequence"))
"""Fields that the topic says already, and identifiers that people do not read."""


def summary(data: object) -> str:
    """Return the payload of an event on one line: scalars as they are, metrics by name, of all else how much it is."""
    if not isinstance(data, Mapping):
        return _value(data)
    words: list[str] = []
    length = 0
    for word in _words(data):
        length += len(word) + 1
        if length > MOST:
            return " ".join([*words, "…"])
        words.append(word)
    return " ".join(words)


def _words(data: Mapping[Any, Any]) -> Iterator[str]:
    for key, value in data.items():
        if key in _SAID or value is None or value is False or value in ("", [], {}):
            continue
        if key == "metrics" and isinstance(value, Mapping):
            yield from (f"{name}={_value(each)}" for name, each in value.items())
        else:
            yield f"{key}={_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        if is_digest(value):
            return value[:SHOWN]
        text = value if len(value) <= TEXT else f"{value[:TEXT]}…"
        return f'"{text}"' if " " in text or not text else text
    if isinstance(value, (bytes, bytearray)):
        return size(len(value)).replace(" ", "")
    if isinstance(value, Mapping):
        digest = value.get("digest")
        if isinstance(digest, str):
            return f"{digest[:SHOWN]}{_bytes(value.get('size'))}"
        return f"{{{len(value)}}}"
    return f"[{len(value)}]" if isinstance(value, (list, tuple)) else str(value)


def _bytes(number: object) -> str:
    return f"({size(number).replace(' ', '')})" if isinstance(number, int) else ""
