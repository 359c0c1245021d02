"""Check the values of a parsed document at the speed of C: MessagePack packs no other integers and texts than it may
have."""

from __future__ import annotations

from typing import Any

import msgpack

from heliograph.core.document_bounds import problems_in
from heliograph.core.errors import Refused

_INFINITIES = (b"\xcb\x7f\xf0\0\0\0\0\0\0", b"\xcb\xff\xf0\0\0\0\0\0\0")


def check_values(tree: Any, topic: str) -> None:
    """Raise Refused, naming the topic and the field, for an integer of more than 64 bits, a lone surrogate in a key or
    text, or an infinite number. The tree is a parsed JSON or YAML document of a bounded shape."""
    try:
        packed = msgpack.packb(tree)  # the whole check at the speed of C
    except (OverflowError, ValueError, TypeError):
        pass
    else:
        if not any(each in packed for each in _INFINITIES):
            return
    for field, problem, value in problems_in(tree):
        raise Refused("invalid", topic=topic, field=field, expected=problem, got=value)
