"""Patterns of topics: intersections, and disjoint patterns that cover given ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from heliograph.core.errors import Refused
from heliograph.core.names import matches


def check_pattern(pattern: str) -> str:
    """Return ``pattern``. Raise Refused if it is no MQTT pattern below the root."""
    words = pattern.split("/")
    for place, word in enumerate(words):
        last = place == len(words) - 1
        if not word or (("#" in word or "+" in word) and len(word) > 1) or (word == "#" and not last) or "\0" in word:
            raise Refused(
                "invalid", field="--topics", expected="words below the root, '+' for any one word, '#' at the end for "
                "the rest, as in edge/edge-1/up/model-update/+", got=pattern,
            )  # fmt: skip
    return pattern


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a cached function from an address to whether it matches any of the patterns."""
    fixed = tuple(patterns)

    @lru_cache(maxsize=4096)
    def wanted(address: str) -> bool:
        return any(matches(pattern, address) for pattern in fixed)

    return wanted


def intersection(one: str, other: str) -> str | None:
    """Return the pattern of the addresses that match both patterns; None if there are none."""
    found: list[str] = []
    first, second = one.split("/"), other.split("/")
    for place in range(max(len(first), len(second))):
        mine = first[place] if place < len(first) else None
        theirs = second[place] if place < len(second) else None
        if mine == "#":
            return "/".join([*found, *second[place:]]) if theirs is not None else "/".join(found)
        if theirs == "#":
            return "/".join([*found, *first[place:]]) if mine is not None else "/".join(found)
        if mine is None or theirs is None:
            return None
        if mine == "+":
            found.append(theirs)
        elif theirs in ("+", mine):
            found.append(mine)
        else:
            return None
    return "/".join(found)


def disjoint(patterns: Iterable[str]) -> list[str]:
    """Return patterns that do not overlap and together match at least the addresses of the given ones.

    Two patterns that overlap are replaced by one that is wider than both.
    """
    found: list[str] = []
    for pattern in patterns:
        wide = pattern
        while overlapping := [each for each in found if intersection(each, wide) is not None]:
            for each in overlapping:
                found.remove(each)
                wide = _wider(wide, each)
        found.append(wide)
    return found


def _wider(one: str, other: str) -> str:
    found: list[str] = []
    first, second = one.split("/"), other.split("/")
    for place in range(max(len(first), len(second))):
        if place >= len(first) or place >= len(second) or "#" in (first[place], second[place]):
            return "/".join([*found, "#"])
        found.append(first[place] if first[place] == second[place] else "+")
    return "/".join(found)
