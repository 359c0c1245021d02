"""Write a tree in either encoding, also one that no encoder would write: ``Encoded`` values, keys that come twice."""

from __future__ import annotations

import base64
import json
from typing import Any, Literal

import msgpack

from heliograph.simulations.input_fuzz.hostile_values import Encoded

Form = Literal["json", "msgpack"]


class Pairs(list[tuple[Any, Any]]):
    """A mapping whose keys may come twice and need not be text."""


def encode_tree(tree: Any, form: Form) -> bytes:
    """Return the bytes of a tree."""
    return _json(tree) if form == "json" else _msgpack(tree)


def _json(value: Any) -> bytes:
    if isinstance(value, Encoded):
        return value.json
    if isinstance(value, (dict, Pairs)):
        pairs = value.items() if isinstance(value, dict) else value
        return b"{" + b",".join(_json_key(key) + b":" + _json(inner) for key, inner in pairs) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(map(_json, value)) + b"]"
    if isinstance(value, bytes):
        return b'"' + base64.b64encode(value) + b'"'
    return json.dumps(value).encode()


def _json_key(key: Any) -> bytes:
    return json.dumps(key if isinstance(key, str) else str(key)).encode()


def _msgpack(value: Any) -> bytes:
    packer = msgpack.Packer()
    if isinstance(value, Encoded):
        return value.msgpack
    if isinstance(value, (dict, Pairs)):
        pairs = [*(value.items() if isinstance(value, dict) else value)]
        whole: bytes = packer.pack_map_header(len(pairs))
        return whole + b"".join(_msgpack(key) + _msgpack(inner) for key, inner in pairs)
    if isinstance(value, (list, tuple)):
        head: bytes = packer.pack_array_header(len(value))
        return head + b"".join(map(_msgpack, value))
    try:
        return bytes(packer.pack(value))
    except (OverflowError, ValueError):  # an integer of more than 64 bits, a lone surrogate
        return b"\xc0"
