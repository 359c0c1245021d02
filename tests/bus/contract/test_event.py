"""The envelope: events round-trip, any other bytes are refused, and a signature detects every change."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliograph.bus.contract.event import Event, decode, encode, is_event, is_signed, parse
from heliograph.core.errors import Refused

KEY = b"k" * 32

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def events(data: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    return st.builds(
        Event,
        id=st.text(min_size=1, max_size=256),
        source=st.text(min_size=1, max_size=256),
        type=st.text(min_size=1, max_size=256),
        data=data,
        time=st.text(max_size=512),
        subject=st.text(max_size=512),
        sequence=st.none() | st.integers(1, 2**63 - 1),
        traceparent=st.text(max_size=512),
    )


integers = st.integers(-(2**63), 2**64 - 1)
finite = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_events = events(trees(finite) | st.binary())
msgpack_events = events(trees(scalars | st.binary()))


@given(json_events)
def test_json_round_trip(event: Event) -> None:
    body = encode(event, "json")
    assert body[:1] == b"{"
    assert decode(body) == event


@given(msgpack_events)
def test_msgpack_round_trip(event: Event) -> None:
    body = encode(event, "msgpack")
    assert 0x80 <= body[0] <= 0x8F
    assert decode(body) == event
    assert decode(memoryview(body)) == decode(bytearray(body)) == event


def test_the_json_form_is_cloudevents_json() -> None:
    event = Event("1", "edge-1/worker/abc", "heliograph.task.v1", {"a": 1}, time="2026-01-02T03:04:05Z", sequence=7)
    assert json.loads(encode(event, "json")) == {
        "specversion": "1.0",
        "id": "1",
        "source": "edge-1/worker/abc",
        "type": "heliograph.task.v1",
        "time": "2026-01-02T03:04:05Z",
        "sequence": 7,
        "datacontenttype": "application/json",
        "data": {"a": 1},
    }
    assert json.loads(encode(Event("1", "s", "t", b"\x00\xff"), "json"))["data_base64"] == "AP8="


def test_a_foreign_producers_sequence_may_be_text() -> None:
    body = b'{"specversion":"1.0","id":"a","source":"b","type":"c","sequence":"12"}'
    assert decode(body).sequence == 12


def attribute(name: str, value: object) -> dict[str, object]:
    return {"specversion": "1.0", "id": "a", "source": "b", "type": "c", name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "0.3"),
        ("id", ""),
        ("id", 5),
        ("id", "x" * 257),
        ("source", None),
        ("type", ["t"]),
        ("time", 5),
        ("subject", "x" * 513),
        ("traceparent", {}),
        ("sequence", 0),
        ("sequence", True),
        ("sequence", 2**63),
        ("sequence", "²"),
        ("sequence", "-1"),
        ("data_base64", "é"),
        ("data_base64", ["AA=="]),
    ],
)
def test_a_wrong_attribute_is_named(name: str, value: object) -> None:
    tree = attribute(name, value)
    for body in (json.dumps(tree).encode(), msgpack.packb(tree)):
        with pytest.raises(Refused) as refused:
            decode(body, "status/jobs/a")
        assert (refused.value.topic, refused.value.field) == ("status/jobs/a", name)
        assert refused.value.expected


def refuses_or_decodes(body: bytes) -> None:
    try:
        event = decode(body, "edge/a/up/log/agent/b")
    except Refused as refused:
        assert refused.topic == "edge/a/up/log/agent/b"
        assert refused.expected
        assert len(refused.got) < 200
    else:
        assert isinstance(event, Event)


@given(st.binary())
@example(b"")
@example(b"NaN")
@example(b'{"specversion":"1.0","id":"a","source":"b","type":"c","data":Infinity}')
def test_random_bytes_are_refused_and_nothing_else(body: bytes) -> None:
    refuses_or_decodes(body)


@given(st.dictionaries(st.sampled_from(["id", "source", "type", "time", "sequence", "data", "data_base64", "x"]),
                       trees(scalars | st.text("0123456789²٣"))))  # fmt: skip
def test_random_attributes_are_refused_and_nothing_else(attributes: dict[str, Any]) -> None:
    tree = {"specversion": "1.0"} | attributes
    refuses_or_decodes(msgpack.packb(tree))
    refuses_or_decodes(json.dumps(tree).encode())


@given(msgpack_events, json_events, st.data())
def test_damaged_events_are_refused_and_nothing_else(first: Event, second: Event, data: st.DataObject) -> None:
    for body in (encode(first, "msgpack"), encode(second, "json")):
        at = data.draw(st.integers(0, len(body) - 1))
        refuses_or_decodes(body[:at])
        refuses_or_decodes(body[:at] + data.draw(st.binary(max_size=3)) + body[at + 1 :])


@pytest.mark.parametrize("depth", [500, 900, 990, 1_000, 1_023, 5_000, 100_000])
def test_deep_nesting_is_refused_and_nothing_else(depth: int) -> None:
    refuses_or_decodes(b"[" * depth)
    refuses_or_decodes(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    refuses_or_decodes(b"\x81\xa1a" + b"\x91" * depth + b"\xc0")


@pytest.mark.parametrize(
    "data",
    [msgpack.ExtType(5, b"x"), {b"bytes": 1}, {7: 1}, [{"deep": {b"bytes": 1}}]],
    ids=["extension", "bytes-key", "int-key", "deep-key"],
)
def test_data_without_a_json_form_is_refused(data: object) -> None:
    """Readers index data by strings, so it must be writable as JSON."""
    with pytest.raises(Refused):
        decode(msgpack.packb(attribute("data", data)))


def test_only_numbers_that_json_has_are_written_as_json() -> None:
    with pytest.raises(ValueError):
        encode(Event("1", "s", "t", float("nan")), "json")


def test_a_bare_document_is_distinguished_from_an_event() -> None:
    assert not is_event(parse(b'{"kind":"FederatedTask"}'))
    assert not is_event(parse(b"[]"))
    assert is_event(parse(encode(Event("1", "s", "t", None))))
    with pytest.raises(Refused) as refused:
        decode(b'{"kind":"FederatedTask"}', "request/jobs/create")
    assert refused.value.code == "not-an-event"


@given(msgpack_events, st.binary(min_size=1, max_size=64))
def test_a_signed_event_reads_like_an_unsigned_one(event: Event, key: bytes) -> None:
    body = encode(event, key=key)
    assert is_signed(body, key)
    assert not is_signed(body, key + b"x")
    assert decode(body) == event
    assert not is_signed(encode(event), key)


@given(msgpack_events, st.data())
def test_a_signature_finds_every_flipped_bit(event: Event, data: st.DataObject) -> None:
    body = bytearray(encode(event, key=KEY))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    assert not is_signed(bytes(body), KEY)


def test_a_signature_finds_every_flipped_byte() -> None:
    body = encode(Event("1", "edge-1/w/0", "heliograph.worker.v1", {"state": "hello"}, sequence=1), key=KEY)
    for at in range(len(body)):
        assert not is_signed(body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :], KEY), f"byte {at}"
        assert not is_signed(body[:at], KEY), f"cut at {at}"
    assert not is_signed(body + b"\x00", KEY)
    assert not is_signed(b"\x00" + body, KEY)


# bounds


def _nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize(
    ("body", "code", "field", "expected"),
    [
        (b'{"n":18446744073709551616}', "invalid", "n", "64 bits"),
        (b'{"a":[{"n":-9223372036854775809}]}', "invalid", "a[0].n", "64 bits"),
        (b'{"n":1%s}' % (b"0" * 30), "invalid", "n", "64 bits"),
        (b'{"n":1%s}' % (b"0" * 5000), "not-json", "", "JSON"),
        (rb'{"s":"\ud83d"}', "invalid", "s", "surrogates"),
        (rb'{"a":{"\ud83d":1}}', "invalid", "a", "surrogates"),
        (b'{"s":"\xed\xa0\xbd"}', "not-json", "", "JSON"),
        (b'{"x":[1e999]}', "invalid", "x[0]", "finite"),
        (_nested(101), "too-deep", "", "100 levels"),
        (_nested(300), "too-deep", "", "100 levels"),
        (b"\x81\xa1a" * 101 + b"\xc0", "too-deep", "", "100 levels"),
        (b"\x81\xa1a" + b"\x91" * 300 + b"\xc0", "too-deep", "", "100 levels"),
        (b"[" * 100_000, "not-json", "", "JSON"),
        (b'{"a":[%s0]}' % (b"[]," * 140_000), "too-large", "", "mappings and lists"),
        (msgpack.packb({"a": [[]] * 140_000}), "too-large", "", "mappings and lists"),
        (msgpack.packb({"a": [{}] * 140_000}), "too-large", "", "mappings and lists"),
        (b"{%s}" % b",".join(b'"%d":0' % n for n in range(70_000)), "too-large", "", "keys in one mapping"),
        (msgpack.packb({str(n): 0 for n in range(70_000)}), "too-large", "", "keys in one mapping"),
        (b"\xdf\xff\xff\xff\xff\xa1a\x01", "not-json", "", "JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}",
)
def test_a_document_beyond_a_bound_is_refused_with_its_field(body: bytes, code: str, field: str, expected: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(body, "some/topic")
    assert (refused.value.code, refused.value.field) == (code, field)
    assert expected in refused.value.expected
    assert "some/topic" in str(refused.value).encode().decode()  # the refusal itself can be sent and printed


@pytest.mark.parametrize(
    "tree",
    [
        {"n": 2**64 - 1, "m": -(2**63)},
        {"s": "\U0001f600", "k\u00e9": 1.7e308},
        {"braces": "{[" * 200_000},
        json.loads(_nested(100)),
        {str(n): {"counted": n} for n in range(10_000)},
        {"x": [0.5] * 200_000},
    ],
    ids=["integers", "text", "braces", "depth", "edges", "numbers"],
)
def test_a_document_within_the_bounds_is_read_in_both_forms(tree: dict[str, Any]) -> None:
    assert parse(json.dumps(tree).encode()) == tree
    assert parse(json.dumps(tree, ensure_ascii=False).encode()) == tree
    assert parse(msgpack.packb(tree)) == tree


hostile = st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))


@given(trees(hostile).map(lambda tree: json.dumps({"a": tree}).encode()))
def test_whatever_is_read_can_be_sent_on_in_both_forms(body: bytes) -> None:
    try:
        tree = parse(body)
    except Refused as error:
        str(error).encode()
        return
    for form in ("json", "msgpack"):
        assert decode(encode(Event("1", "s", "t", tree), form)).data == tree  # type: ignore[arg-type]
