"""The size limit of each topic."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract import topics
from heliograph.core.errors import Refused


def check_size(declared: topics.Topic[Any], topic: str, body: bytes) -> None:
    """Raise Refused if the body is larger than its topic allows."""
    if len(body) > declared.max_size:
        expected = f"at most {declared.max_size} bytes"
        raise Refused("too-large", topic=topic, expected=expected, got=f"{len(body)} bytes")
