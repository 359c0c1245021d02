"""Signed events: the exact bytes, the topic and the key decide."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as some

from heliograph.bus.contract.event import Event, decode, encode, parse
from heliograph.bus.contract.event_signature import check_event_signature, holds, is_signed, signer_of
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Refused

SIGNER, OTHER = Ed25519Signer(bytes(32)), Ed25519Signer(bytes(31) + b"\x01")
TOPIC = "edge/edge-1/down/task"
DATA = {"edge": "edge-1", "n": 3}
EVENT = Event("1", "cloud/coordinator/a", "heliograph.task.v1", DATA, "2026-01-01T00:00:00Z", TOPIC)


def check(body: bytes, topic: str = TOPIC, *trusted: Ed25519Signer) -> None:
    keys = [each.public for each in trusted or (SIGNER,)]
    check_event_signature(decode(body), body, topic, keys, "the coordinator")


trees = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**63) | some.text() | some.binary(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3), max_leaves=8,
)  # fmt: skip


@given(trees, some.text(max_size=20), some.integers(1, 100) | some.none())
def test_a_signed_event_is_the_event(data: object, subject: str, sequence: int | None) -> None:
    event = replace(EVENT, data=data, subject=subject, sequence=sequence)
    body = encode(event, signer=SIGNER)
    found = decode(body)
    assert replace(found, signed_by="") == event
    assert signer_of(found) == SIGNER.public
    check(body, subject)


@given(some.data())
def test_no_byte_can_be_changed(data: some.DataObject) -> None:
    body = bytearray(encode(EVENT, signer=SIGNER))
    place = data.draw(some.integers(0, len(body) - 1))
    body[place] ^= data.draw(some.integers(1, 255))
    with pytest.raises(Refused):
        check(bytes(body))


def test_neither_more_nor_fewer_bytes_hold() -> None:
    body = encode(EVENT, signer=SIGNER)
    for other in (body[:-1], body + b"\x00", body[:-74]):
        with pytest.raises(Refused):
            check(other)


@pytest.mark.parametrize(("body", "topic", "field"), [
    (encode(EVENT), TOPIC, "signature"),
    (encode(EVENT, key=bytes(32)), TOPIC, "signature"),
    (encode(EVENT, "json"), TOPIC, "signature"),
    (encode(EVENT, signer=OTHER), TOPIC, "signedby"),
    (encode(EVENT, signer=SIGNER), "edge/edge-2/down/task", "subject"),
])  # fmt: skip
def test_what_is_refused_and_why(body: bytes, topic: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        check(body, topic)
    assert (refused.value.code, refused.value.field) == ("bad-signature", field)


def test_another_key_can_claim_no_signature() -> None:
    fields = parse(encode(EVENT, signer=OTHER))
    fields["signedby"] = parse(encode(EVENT, signer=SIGNER))["signedby"]
    with pytest.raises(Refused, match="other bytes than those that were signed"):
        check(msgpack.packb(fields))


def test_a_signature_elsewhere_in_the_map_does_not_count() -> None:
    fields = parse(encode(EVENT, signer=SIGNER))
    body = msgpack.packb({"signature": fields.pop("signature")} | fields)
    assert not is_signed(body)
    assert not holds(body, SIGNER.public)


def test_several_keys_may_be_trusted() -> None:
    check(encode(EVENT, signer=OTHER), TOPIC, SIGNER, OTHER)
