"""Make a failing input smaller: delta debugging (Zeller and Hildebrandt, 2002) over its bytes."""

from __future__ import annotations

from collections.abc import Callable

MOST = 400
"""Largest number of reads."""


def minimise(data: bytes, fails: Callable[[bytes], bool], most: int = MOST) -> bytes:
    """Return the smallest input found for which ``fails`` is true, within ``most`` calls of it."""
    tries = 0
    size = max(1, len(data) // 2)
    while size:
        smaller, at = False, 0
        while at < len(data):
            if tries >= most:
                return data
            candidate = data[:at] + data[at + size :]
            tries += 1
            if fails(candidate):
                data, smaller = candidate, True
            else:
                at += size
        if not smaller or size > len(data):
            size = min(size, len(data)) // 2
    return data
