"""Reply addresses: the caller that one names, and the address in bytes that were not read."""

from __future__ import annotations

import json

import msgpack
import pytest

from heliograph.bus.reply import MAX_CALLER, caller_of, reply_in_bytes


@pytest.mark.parametrize(
    ("address", "root", "caller"),
    [
        ("reply/device-7/1", "heliograph", "device-7"),
        ("heliograph.reply.client-3.X.1", "heliograph", "client-3"),
        ("plant.a.reply.client-3.X", "plant/a", "client-3"),
        ("_INBOX.maria.Xy.1", "heliograph", "maria"),
        ("_INBOX.Xy", "heliograph", "Xy"),
        ("other.reply.client-3.X.1", "heliograph", ""),
        ("edge/edge-1/down/task", "heliograph", ""),
        ("reply/" + "a" * 500 + "/1", "heliograph", "a" * MAX_CALLER),
        ("", "heliograph", ""),
        (None, "heliograph", ""),
    ],
)
def test_an_address_names_its_caller(address: str | None, root: str, caller: str) -> None:
    assert caller_of(address, root) == caller


@pytest.mark.parametrize("before", [{}, {"text": "reply_to"}, {"reply_to_me": "heliograph/reply/x/1"}])
@pytest.mark.parametrize("encode", [lambda tree: json.dumps(tree).encode(), msgpack.packb])
def test_an_address_is_found_in_bytes_without_reading_them(before: dict[str, str], encode: object) -> None:
    assert callable(encode)
    body = encode({**before, "reply_to": "heliograph/reply/device/1", "more": "x" * 100})
    assert reply_in_bytes(body, "heliograph") == "reply/device/1"
    assert reply_in_bytes(body.replace(b"reply/", b"event/"), "heliograph") is None
