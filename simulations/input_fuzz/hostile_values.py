"""Values that have no place in a document, or stand at the edge of it, in both encodings."""

from __future__ import annotations

import copy
import json
import random  # noqa: TID251 only its type: the generator is seeded
import struct
from dataclasses import dataclass
from typing import Any

import msgpack


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value by its bytes: some values exist in one encoding only, and have a near one in the other."""

    json: bytes
    msgpack: bytes


def _integer(number: int) -> Encoded:
    limit = max(-(1 << 63), min(number, (1 << 64) - 1))
    return Encoded(str(number).encode(), msgpack.packb(limit))


def _text(json_text: bytes, raw: bytes) -> Encoded:
    return Encoded(b'"' + json_text + b'"', msgpack.packb(raw.decode("latin-1")) if raw.isascii() else _raw_text(raw))


def _raw_text(raw: bytes) -> bytes:
    return b"\xdb" + struct.pack(">I", len(raw)) + raw


def nested(levels: int, inside: bytes = b"") -> Encoded:
    """Return lists inside each other."""
    return Encoded(b"[" * levels + inside + b"]" * levels, b"\x91" * levels + b"\xc0")


def many_keys(count: int) -> Encoded:
    """Return a mapping of that many keys."""
    keys = [f"k{number}" for number in range(count)]
    return Encoded(json.dumps(dict.fromkeys(keys, 0)).encode(), msgpack.packb(dict.fromkeys(keys, 0)))


def many_containers(count: int) -> Encoded:
    """Return a list of that many empty lists."""
    return Encoded(b"[" + b",".join([b"[]"] * count) + b"]", b"\xdd" + struct.pack(">I", count) + b"\x90" * count)


NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2**31, 2**53, 2**63 - 1, _integer(2**63), _integer(2**64 - 1), _integer(2**64), _integer(-(2**63) - 1),
    _integer(10**30), Encoded(b"9" * 5000, msgpack.packb(2**64 - 1)), 1e308, -1e308, 1.7e308, 5e-324, -0.0, 0.5,
    Encoded(b"1e999", msgpack.packb(float("inf"))), Encoded(b"-1e999", msgpack.packb(float("-inf"))),
    Encoded(b"NaN", msgpack.packb(float("nan"))), Encoded(b"Infinity", b"\xca\x7f\x80\0\0"), True, None,
)  # fmt: skip
TEXTS: tuple[Any, ...] = (
    "", "a", "edge-1", "cloud", "coordinator", "-", "A", "a/b", "a.b", "+", "#", "*", ">", "../../x", "/etc/passwd",
    "\0", "\x1b[2J\x1b]0;x\x07", "\r\nPUB x 1\r\n", "\u202e\u2066", "²", "١٢", "é", "𝕊", "__class__", "$ref", "~",
    "%s%n{0}", "NaN",
    "x" * 300, "x" * 5000, "x" * 70_000, "a" * 63, "a" * 64, "0" * 64, "f" * 64, "2026-01-01T00:00:00Z", "file:///",
    "heliograph/reply/a/b", "_INBOX.x", "1" * 20, "-1", "true", "null", "{}",
    _text(rb"\ud83d", b"\xed\xa0\xbd"), _text(rb"\udc00\ud800", b"\xff\xfe"), _text(rb"a\u0000b", b"a\0b"),
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    [], {}, [[]], [None], {"": {}}, b"", b"\0" * 8, nested(99), nested(101), nested(300), nested(5000, b"1"),
    Encoded(b'"\x01"', b"\xc7\x01\x05\0"), Encoded(b"{,}", b"\xc1"), Encoded(b"", b""),
    Encoded(b"0", b"\xd6\xff\x7f\xff\xff\xff"), Encoded(b'{"1":1}', b"\x81\x01\x01"),
    Encoded(b'{"a":1,"a":2}', b"\x82\xa1a\x01\xa1a\x02"), Encoded(b'"AA=="', b"\xc4\x01\0"),
)  # fmt: skip


def hostile_value(rng: random.Random) -> Any:
    """Return one of them; rarely a large one."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(NUMBERS)
    if kind < 0.75:
        return rng.choice(TEXTS)
    if kind < 0.995:
        return copy.deepcopy(rng.choice(OTHERS))  # a mutation may change it
    return rng.choice((many_keys(70_000), many_keys(60_000), many_containers(140_000), nested(100_000), [0] * 300_000))
