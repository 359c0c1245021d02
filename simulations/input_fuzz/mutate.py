"""Mutations of trees, which know keys, values and types, and of bytes."""

from __future__ import annotations

import copy
import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Callable, Sequence
from typing import Any

from heliograph.simulations.input_fuzz.hostile_values import TEXTS, hostile_value
from heliograph.simulations.input_fuzz.trees import Pairs

MOST_REPEATS = 2000
Place = tuple[Any, Any]
"""A container, and the key or index of a value in it."""


def mutate_tree(rng: random.Random, tree: Any, other: Any = None) -> Any:
    """Return a copy of a tree with one to three mutations. ``other`` is a tree whose parts may be spliced in."""
    root = [copy.deepcopy(tree)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(root)
        container, key = rng.choice(places)
        rng.choice(_MUTATIONS)(rng, container, key, other)
    return root[0]


def mutate_bytes(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Return bytes with one to four mutations: flipped bits, cuts, repeats, widened integers, spliced parts."""
    whole = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(whole) + 1)
        end = min(len(whole), at + rng.choice((1, 1, 2, 4, 8, 64, 1024)))
        kind = rng.randrange(9)
        if kind == 0 and at < len(whole):
            whole[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(whole):
            whole[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0xC1, 0x22, 0x5B, 0x7B))
        elif kind == 2:
            del whole[at:]
        elif kind == 3:
            del whole[at:end]
        elif kind == 4:
            whole[at:at] = whole[at:end] * rng.choice((1, 2, 50))
        elif kind == 5 and other:
            start = rng.randrange(len(other))
            whole[at:end] = other[start : start + rng.choice((4, 64, len(other)))]
        elif kind == 6:
            width = rng.choice((2, 4, 8))
            number = rng.choice((0, 1, (1 << (8 * width)) - 1, 1 << (8 * width - 1), len(whole), len(whole) + 1))
            whole[at : at + width] = number.to_bytes(9, rng.choice(("little", "big")))[:width]
        elif kind == 7:
            whole[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 8))))
        else:
            swapped = whole[at:end]
            del whole[at:end]
            back = rng.randrange(len(whole) + 1)
            whole[back:back] = swapped
    return bytes(whole)


def _places(root: list[Any]) -> list[Place]:
    """Return every value's place, the whole tree's first."""
    found: list[Place] = []
    waiting: list[Any] = [root]
    while waiting:
        container = waiting.pop()
        keys: list[Any] = [*container] if isinstance(container, dict) else [*range(len(container))]
        for key in keys:
            found.append((container, key))
            if type(container[key]) in (dict, list):
                waiting.append(container[key])
    return found


def _replace(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    container[key] = hostile_value(rng)


def _near(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    """Change a value within its type."""
    value = container[key]
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, int):
        container[key] = rng.choice((value + 1, value - 1, -value, value * 2, value << 32, float(value)))
    elif isinstance(value, float):
        container[key] = rng.choice((-value, value * 1e300, value + 1, int(value) if abs(value) < 1e15 else 0))
    elif isinstance(value, str):
        odd = rng.choice([text for text in TEXTS if isinstance(text, str)])
        at = rng.randrange(len(value) + 1)
        container[key] = rng.choice((value[:at], value[:at] + odd + value[at:], value.upper(), value * 3, odd + value))
    elif isinstance(value, bytes):
        container[key] = mutate_bytes(rng, value)
    else:
        _replace(rng, container, key, other)


def _another_type(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    value = container[key]
    text = str(value)[:1000]
    container[key] = rng.choice(([value], {"value": value}, text, None, True, [value, value], {"": [value]}))


def _delete(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    if isinstance(container, dict):
        del container[key]
    else:
        container[key] = None


def _rename(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    if isinstance(container, dict):
        odd = rng.choice([text for text in TEXTS if isinstance(text, str)])
        container[rng.choice((odd, f"{key}{odd}"[:70_000], str(key).upper(), f"_{key}"))] = container.pop(key)


def _twice(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    """Let the keys of the mapping at the place come twice, with another value or a key that is no text."""
    value = container[key]
    if isinstance(value, dict) and value:
        pairs = Pairs(value.items())
        again = rng.choice(pairs)[0]
        pairs.append((rng.choice((again, again, 1, None, b"x")), hostile_value(rng)))
        container[key] = pairs
    elif type(value) is list and value:
        container[key] = value * rng.choice((2, 3, MOST_REPEATS // len(value) + 1))


def _splice(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    source, at = rng.choice(_places([other if other is not None else {}]))
    container[key] = copy.deepcopy(source[at])


def _add(rng: random.Random, container: Any, key: Any, other: Any) -> None:
    value = container[key]
    if isinstance(value, dict):
        value[rng.choice([text for text in TEXTS if isinstance(text, str)])] = hostile_value(rng)
    elif type(value) is list:
        value.append(hostile_value(rng))
    else:
        _replace(rng, container, key, other)


_MUTATIONS: Sequence[Callable[[random.Random, Any, Any, Any], None]] = (
    _replace, _replace, _near, _near, _another_type, _delete, _rename, _twice, _splice, _add,
)  # fmt: skip
