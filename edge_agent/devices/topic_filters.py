"""MQTT topic filters (MQTT 5, 4.7): which topics one takes, and which of them to subscribe to.

A broker delivers a message once for each subscription that takes it, where a client has several. So those of one client
must not overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

ONE, REST = "+", "#"


def takes(pattern: str, topic: str) -> bool:
    """Return whether a filter takes a topic."""
    words, levels = pattern.split("/"), topic.split("/")
    if levels[0].startswith("$") and words[0] in (ONE, REST):
        return False
    for at, word in enumerate(words):
        if word == REST:
            return True
        if at >= len(levels) or word not in (ONE, levels[at]):
            return False
    return len(words) == len(levels)


def apart(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return filters that take all that the given ones take, and of which no two take one topic. Where two overlap, a
    wider one stands for both."""
    found: list[str] = []
    for pattern in patterns:
        wide = pattern
        while (other := next((each for each in found if _overlap(wide, each)), None)) is not None:
            found.remove(other)
            wide = _wider(wide, other)
        found.append(wide)
    return tuple(found)


def fewer(patterns: Iterable[str], most: int) -> tuple[str, ...]:
    """Return filters that are ``apart``. If there are more than ``most``, those of one first level become one, which
    takes more."""
    found = apart(patterns)
    if len(found) <= most:
        return found
    firsts = Counter(each.split("/")[0] for each in found)
    merged = (f"{first}/{REST}" if firsts[first] > 1 and first not in (ONE, REST) else each
              for each in found for first in (each.split("/")[0],))  # fmt: skip
    return apart(merged)


def _overlap(first: str, second: str) -> bool:
    """Return whether a topic may be taken by both."""
    one, two = first.split("/"), second.split("/")
    for wild, other in ((one, two), (two, one)):
        if wild[0] in (ONE, REST) and other[0].startswith("$"):
            return False
    for at in range(max(len(one), len(two))):
        left, right = (words[at] if at < len(words) else None for words in (one, two))
        if REST in (left, right):
            return True
        if left is None or right is None or (ONE not in (left, right) and left != right):
            return False
    return True


def _wider(first: str, second: str) -> str:
    """Return a filter that takes what either of two overlapping ones takes."""
    words = []
    one, two = first.split("/"), second.split("/")
    for left, right in zip(one, two, strict=False):
        if REST in (left, right):
            break
        words.append(left if left == right else ONE)
    else:
        if len(one) == len(two):
            return "/".join(words)
    return "/".join([*words, REST])
