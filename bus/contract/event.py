"""The envelope: a CloudEvents 1.0 event as JSON or MessagePack; its first byte says which.

JSON follows the CloudEvents JSON format 1.0. The MessagePack form is the same map of attributes with native binary
data. An authenticated event carries one more attribute, always the last of the MessagePack map, over every byte before
it: ``mac``, an HMAC-SHA256, or ``signature`` (see ``event_signature``). The encoded bytes travel unchanged over MQTT,
NATS, journals and traces.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgpack

from heliograph.core.document_bounds import MAX_CONTAINERS, MAX_DEPTH, MAX_KEYS, check_shape
from heliograph.core.document_values import check_values
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.core.ed25519_signer import Ed25519Signer

Form = Literal["json", "msgpack"]

_MAC_FIELD = b"\xa3mac\xc4\x20"
_MAC_SIZE = 32
SIGNATURE_FIELD = b"\xa9signature\xc4\x40"
"""The name of the last attribute of a signed event, and the beginning of its value."""
_STRING = frozenset((str,))
_NUMBER = re.compile("0{0,45}[0-9]{1,18}")
JSON_TYPE = "application/json"
_MAX_CONTENT_TYPE = 128
_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


class _TooMany(ValueError):
    """A document has more mappings and lists than ``MAX_CONTAINERS``."""



@dataclass(frozen=True, slots=True)
class Event:
    """One event. Its identity is ``source`` + ``id``.

    Attributes:
        id: unique within ``source``.
        source: ``<edge>/<component>/<incarnation>``; a restarted process is a new source.
        type: kind of event, such as ``heliograph.model-update.v1``.
        data: a tree of None, bool, int, float, str, bytes, list and dict with string keys.
        time: RFC 3339, UTC.
        subject: its topic, below the root.
        sequence: the producer's own number, from 1 without a gap; set where the producer wants an acknowledgement.
        traceparent: W3C Trace Context.
        replayed: True where the event was replayed from a trace.
        signed_by: the public key of whoever has signed the event, as it says; ``event_signature`` checks it.
        content_type: media type of ``data``; empty for a tree, which is ``application/json`` in CloudEvents' words.
        anomaly: what was wrong with ``sequence`` when a node's agent took the event; empty where nothing was.
    """

    id: str
    source: str
    type: str
    data: Any
    time: str = ""
    subject: str = ""
    sequence: int | None = None
    traceparent: str = ""
    replayed: bool = False
    signed_by: str = ""
    content_type: str = ""
    anomaly: str = ""


def encode(
    event: Event, form: Form = "msgpack", key: bytes | None = None, signer: Ed25519Signer | None = None
) -> bytes:
    """Return the encoded event, with a MAC where a ``key`` is given, signed where a ``signer`` is (MessagePack
    only)."""
    fields: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    for name in ("time", "subject", "traceparent"):
        if value := getattr(event, name):
            fields[name] = value
    if event.sequence is not None:
        fields["sequence"] = event.sequence
    if event.replayed:
        fields["replayed"] = True
    if event.anomaly:
        fields["anomaly"] = event.anomaly
    if event.content_type:
        fields["datacontenttype"] = event.content_type
    if form == "json":
        if isinstance(event.data, bytes):
            fields["data_base64"] = base64.b64encode(event.data).decode()
        else:
            fields.setdefault("datacontenttype", JSON_TYPE)
            fields["data"] = event.data
        return json.dumps(fields, separators=(",", ":"), default=_json_bytes, allow_nan=False).encode()
    fields["data"] = event.data
    if signer is not None:
        return sign_fields(fields, signer)
    if key is None:
        return msgpack.packb(fields)  # type: ignore[no-any-return]
    unsigned = _all_but_last(fields)
    return b"".join((unsigned, _MAC_FIELD, hmac.digest(key, unsigned, hashlib.sha256)))


def sign_fields(fields: Mapping[str, Any], signer: Ed25519Signer) -> bytes:
    """Return an event's attributes as MessagePack, signed."""
    public = base64.urlsafe_b64encode(signer.public).decode().rstrip("=")
    unsigned = _all_but_last({**fields, "signedby": public})
    return b"".join((unsigned, SIGNATURE_FIELD, signer.sign(unsigned)))


def _all_but_last(fields: Mapping[str, Any]) -> bytes:
    """Return MessagePack of the attributes, in a map that has one more."""
    packer = msgpack.Packer()
    packed = (packer.pack(name) + packer.pack(value) for name, value in fields.items())
    return bytes(packer.pack_map_header(len(fields) + 1)) + b"".join(packed)


def is_signed(body: bytes, key: bytes) -> bool:
    """Return whether the last field of the encoded event is the HMAC, made with ``key``, of the bytes before it."""
    cut = len(body) - len(_MAC_FIELD) - _MAC_SIZE
    if cut <= 0 or body[cut : cut + len(_MAC_FIELD)] != _MAC_FIELD:
        return False
    return hmac.compare_digest(hmac.digest(key, body[:cut], hashlib.sha256), body[-_MAC_SIZE:])


def with_blank_signature(body: bytes) -> bytes:
    """Return the encoded event with zeros in place of its signature, if it has one."""
    cut = len(body) - _MAC_SIZE
    return body[:cut] + bytes(_MAC_SIZE) if body[cut - len(_MAC_FIELD) : cut] == _MAC_FIELD else body


def decode(body: bytes | bytearray | memoryview, topic: str = "") -> Event:
    """Decode the event in ``body``. Raises Refused, naming ``topic``, if it is no event."""
    tree = parse(body, topic)
    if not is_event(tree):
        raise Refused("not-an-event", topic=topic, field="specversion", expected="a CloudEvents 1.0 event", got=tree)
    return from_tree(tree, topic)


def parse(body: bytes | bytearray | memoryview, topic: str = "") -> Any:
    """Parse ``body``, JSON or MessagePack, into a tree. Raises Refused if it is neither, or exceeds the bounds of
    ``core.document_bounds``: every reader can handle, store and send on a tree that this function has returned."""
    if len(body) == 0:
        raise Refused("not-json", topic=topic, expected="JSON or MessagePack", got="an empty message")
    first = body[0]
    try:
        if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            tree = _unpack(body)
            check_shape(tree, topic)
            return tree
        raw = bytes(body)
        text = raw.decode(json.detect_encoding(raw))  # json.loads would let surrogates pass
        containers = text.count("{") + text.count("[")
        if containers > MAX_CONTAINERS:
            containers = _count_containers(text)
        tree = _JSON.decode(text)
        if containers > MAX_DEPTH or len(text) > 4 * MAX_KEYS:  # a key takes at least four characters
            check_shape(tree, topic)
        check_values(tree, topic)
        return tree
    except _TooMany:
        raise Refused("too-large", topic=topic, expected=f"at most {MAX_CONTAINERS} mappings and lists",
                      got="more") from None  # fmt: skip
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        # str() of a decode error may contain the document itself
        what = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        expected = f"JSON or MessagePack ({what})"
        raise Refused("not-json", topic=topic, expected=expected, got=bytes(body[:64])) from None


def _unpack(body: bytes | bytearray | memoryview) -> Any:
    if len(body) <= MAX_CONTAINERS:  # a container takes at least one byte
        return msgpack.unpackb(body, ext_hook=_no_extension, object_hook=_string_keys, timestamp=1)
    made = 0

    def count(container: Any) -> Any:
        nonlocal made
        made += 1
        if made > MAX_CONTAINERS:
            raise _TooMany
        return container

    def mapping(tree: dict[Any, Any]) -> dict[str, Any]:
        count(tree)
        return _string_keys(tree)

    return msgpack.unpackb(body, ext_hook=_no_extension, object_hook=mapping, list_hook=count, timestamp=1)


def _count_containers(text: str) -> int:
    """Return the number of mappings and lists in a JSON text. Raises ValueError if there are too many."""
    without_texts = _TEXT.sub("", text)
    containers = without_texts.count("{") + without_texts.count("[")
    if containers > MAX_CONTAINERS:
        raise _TooMany
    return containers


def is_event(tree: object) -> bool:
    """Return whether a parsed tree is a CloudEvents event, not a bare document."""
    return isinstance(tree, dict) and "specversion" in tree


def from_tree(tree: Mapping[str, Any], topic: str = "") -> Event:
    """Return the event of a parsed tree. Raises Refused if an attribute is missing or of the wrong type."""
    if tree["specversion"] != "1.0":
        raise Refused("invalid", topic=topic, field="specversion", expected='"1.0"', got=tree["specversion"])
    for name in ("id", "source", "type"):
        value = tree.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= 256:
            raise Refused("invalid", topic=topic, field=name, expected="a string of 1 to 256 characters", got=value)
    for name in ("time", "subject", "traceparent", "signedby"):
        value = tree.get(name, "")
        if not isinstance(value, str) or len(value) > 512:
            raise Refused("invalid", topic=topic, field=name, expected="a string", got=value)
    sequence = tree.get("sequence")
    if isinstance(sequence, str) and _NUMBER.fullmatch(sequence):
        sequence = int(sequence)  # the CloudEvents sequence extension is a string, padded by zeros where it sorts
    if sequence is not None and (type(sequence) is not int or not 0 < sequence < 1 << 63):
        raise Refused("invalid", topic=topic, field="sequence", expected="a whole number from 1", got=sequence)
    replayed = tree.get("replayed", False)
    if type(replayed) is not bool:
        raise Refused("invalid", topic=topic, field="replayed", expected="true or false", got=replayed)
    data = tree.get("data")
    if "data_base64" in tree:
        try:
            data = base64.b64decode(tree["data_base64"], validate=True)
        except (ValueError, TypeError):
            raise Refused("invalid", topic=topic, field="data_base64", expected="base64") from None
    return Event(
        id=tree["id"],
        source=tree["source"],
        type=tree["type"],
        data=data,
        time=tree.get("time", ""),
        subject=tree.get("subject", ""),
        sequence=sequence,
        traceparent=tree.get("traceparent", ""),
        replayed=replayed,
        signed_by=tree.get("signedby", ""),
        content_type=_content_type(tree.get("datacontenttype")),
        anomaly=tree["anomaly"] if isinstance(tree.get("anomaly"), str) else "",
    )


def _content_type(given: object) -> str:
    """Return a media type; empty for JSON's, and for what is none: it says how data may be shown, not whether they
    are."""
    if not isinstance(given, str) or given == JSON_TYPE or len(given) > _MAX_CONTENT_TYPE:
        return ""
    return given


def _json_bytes(value: object) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _string_keys(tree: dict[Any, Any]) -> dict[str, Any]:
    if not _STRING.issuperset(map(type, tree)):
        raise ValueError("a key is not a string")
    return tree


def _no_extension(code: int, _: bytes) -> object:
    raise ValueError(f"extension type {code}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)
