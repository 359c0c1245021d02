"""A trace as JSON lines: one message on each line, its body in base64, so that an import restores the same bytes.

The first line is ``{"trace": {...}}``, the trace's metadata; ``{"attachment": digest, "data": base64}`` is a blob. A
message's line may have ``message``, the decoded body, for people: to change a message, change ``message`` and remove
``body``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NamedTuple

from heliograph.bus.contract.event import parse
from heliograph.bus.contract.former_names import present_address
from heliograph.bus.traces import layout
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.errors import HeliographError, Refused

MAX_LINE = 4 * layout.MAX_BODY
"""Largest size of a line in bytes. A longer attachment is decoded block by block as it is read."""
MAX_VALUES = 2_000_000
"""Commas and opening brackets of a line, at most: each may become a Python object of 60 bytes and more."""
_BLOCK = 1024 * 1024
_ATTACHMENT = re.compile(rb'\{"attachment": ?"([0-9a-f]{64})", ?"data": ?"')
_MESSAGE_KEYS = {"topic", "log_time", "publish_time", "headers", "retained", "body", "message"}


def line_of(recorded: Recorded, decoded: bool = False) -> str:
    """Return a message as one line of JSON; with ``decoded`` the line has ``message`` too if the body is a document."""
    tree: dict[str, Any] = {
        "topic": recorded.topic, "log_time": recorded.log_time, "publish_time": recorded.publish_time,
    }  # fmt: skip
    if recorded.headers:
        tree["headers"] = dict(recorded.headers)
    if recorded.retained:
        tree["retained"] = True
    tree["body"] = base64.b64encode(recorded.body).decode()
    if decoded and (message := readable(recorded.body)) is not None:
        tree["message"] = message
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False)


def readable(body: bytes) -> Any:
    """Return a body as a JSON document, with binary values as base64; None if it is no document."""
    try:
        text = json.dumps(parse(body), default=_base64, allow_nan=False)
    except (HeliographError, ValueError, TypeError, RecursionError):
        return None
    return json.loads(text)


def first_line(root: str, metadata: Mapping[str, str]) -> str:
    return json.dumps({"trace": {"version": str(layout.VERSION), "root": root, **metadata}}, ensure_ascii=False)


def attachment_line(name: str, data: bytes) -> str:
    return json.dumps({"attachment": name, "data": base64.b64encode(data).decode()})


class TraceStart(NamedTuple):
    """A trace's metadata, and whether its topics have the names before 0.2."""

    metadata: dict[str, str]
    former: bool


def parse_first_line(line: bytes, name: str) -> TraceStart | None:
    """Return what the first line says; None if the line is a message. Raise Refused if invalid."""
    tree = _tree(line, name, 1)
    if "trace" not in tree:
        return None
    found = tree["trace"]
    if not isinstance(found, dict) or not all(map(_is_text, (*found, *found.values()))):
        raise _refusal(name, 1, "trace", "a mapping of strings", found)
    version = str(found.pop("version", layout.VERSION))
    if not (version.isascii() and version.isdigit()) or not 0 < int(version[:9]) <= layout.VERSION:
        raise Refused("newer", topic=f"{name} line 1", field="version", expected=f"at most {layout.VERSION}",
                      got=version, hint="pip install -U heliograph")  # fmt: skip
    return TraceStart(found, int(version) == 1)


@dataclass(frozen=True)
class LongAttachment:
    """A line that is an attachment of more than ``MAX_LINE`` bytes."""

    digest: str
    data: bytes


def write_line(
    line: bytes | LongAttachment, name: str, number: int, writer: TraceWriter, former: bool = False
) -> None:
    """Write a line's message or attachment to a trace. Raise Refused naming the line and the bad field.

    Args:
        former: whether topics have the names before 0.2.
    """
    if isinstance(line, LongAttachment):
        _attach(line.digest, line.data, name, number, writer)
        return
    tree = _tree(line, name, number)
    if "attachment" in tree:
        data = _decoded(tree.get("data"), name, number, "data")
        _attach(str(tree["attachment"]), data, name, number, writer)
    else:
        message = message_of(tree, name, number)
        writer.write(replace(message, topic=present_address(message.topic)) if former else message)


def message_of(tree: Mapping[str, Any], name: str, number: int) -> Recorded:
    """Return the message of a line's JSON. Raise Refused naming the line and the bad field."""
    if unknown := sorted(set(tree) - _MESSAGE_KEYS):
        raise _refusal(name, number, str(unknown[0]), f"one of {', '.join(sorted(_MESSAGE_KEYS))}", "another field")
    topic = tree.get("topic")
    if not isinstance(topic, str) or not 0 < len(topic.encode(errors="replace")) <= 65535 or _has_lone_surrogate(topic):
        raise _refusal(name, number, "topic", "an address below the root", ascii(topic))
    log_time = _time(tree.get("log_time"), name, number, "log_time")
    publish_time = _time(tree.get("publish_time", log_time), name, number, "publish_time")
    try:
        headers = layout.check_headers(tree.get("headers", {}))
    except ValueError:
        raise _refusal(name, number, "headers", "a mapping of strings", tree["headers"]) from None
    retained = tree.get("retained", False)
    if type(retained) is not bool:
        raise _refusal(name, number, "retained", "true or false", retained)
    if "body" in tree:
        body = _decoded(tree["body"], name, number, "body")
        if tree.get("message") is not None and readable(body) != tree["message"]:
            raise Refused("contradiction", topic=f"{name} line {number}", field="message", expected="the decoded body",
                          got="something else", hint="To change a message, remove its body.")  # fmt: skip
    elif "message" in tree:
        body = json.dumps(tree["message"], separators=(",", ":"), ensure_ascii=False).encode()
    else:
        raise _refusal(name, number, "body", "base64", "nothing")
    return Recorded(topic, body, log_time, publish_time, headers, retained)


def lines_of(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes | LongAttachment]]:
    """Yield each line that is not empty, with its number. Raise Refused if one is longer than ``MAX_LINE`` and is no
    attachment as ``attachment_line`` writes it."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) <= MAX_LINE:
            if line.strip():
                yield number, line
            continue
        head = _ATTACHMENT.match(line)
        if head is None:
            raise Refused("too-large", topic=f"{name} line {number}", expected=f"at most {MAX_LINE} bytes",
                          got="more", hint="Only an attachment may be longer, as 'export' writes it.")  # fmt: skip
        digest = head[1].decode()
        start = line[head.end() :]
        del line, head  # the decoded bytes need the room
        yield number, LongAttachment(digest, _decoded_rest(start, file, name, number))


def _decoded_rest(text: bytes, file: BinaryIO, name: str, number: int) -> bytes:
    """Decode an attachment's base64 up to its end, reading the line's rest block by block."""
    found = bytearray()
    while (end := text.find(b'"')) < 0:
        whole = len(text) - len(text) % 4
        found += _decoded(text[:whole], name, number, "data")
        if len(found) > layout.MAX_ATTACHMENT:
            raise Refused("too-large", topic=f"{name} line {number}", field="data",
                          expected=f"at most {layout.MAX_ATTACHMENT} bytes", got="more")  # fmt: skip
        more = file.readline(_BLOCK)
        if not more.strip():
            raise _refusal(name, number, "data", "base64 and a closing quote", "the end of the line")
        text = text[whole:] + more
    found += _decoded(text[:end], name, number, "data")
    rest = text[end + 1 :]
    if not rest.endswith(b"\n"):
        rest += file.readline(_BLOCK)
    if rest.strip() != b"}":
        raise _refusal(name, number, "data", "nothing behind it", "another field")
    return bytes(found)


def _attach(digest: str, data: bytes, name: str, number: int, writer: TraceWriter) -> None:
    try:
        writer.attach(digest, data)
    except Refused as error:
        raise _refusal(name, number, "attachment", error.expected, error.got) from None


def _tree(line: bytes, name: str, number: int) -> dict[str, Any]:
    values = sum(map(line.count, (b",", b"[", b"{")))
    if values > MAX_VALUES:
        raise Refused("too-large", topic=f"{name} line {number}", expected=f"at most {MAX_VALUES} values",
                      got=f"{values} or fewer")  # fmt: skip
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError):
        raise _refusal(name, number, "", "a JSON document", line) from None
    if not isinstance(tree, dict):
        raise _refusal(name, number, "", "a mapping", tree)
    return tree


def _time(value: Any, name: str, number: int, field: str) -> int:
    if type(value) is not int or not 0 <= value <= layout.MAX_TIME:
        raise _refusal(name, number, field, "nanoseconds since 1970", value)
    return value


def _decoded(value: Any, name: str, number: int, field: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise _refusal(name, number, field, "base64", value) from None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not _has_lone_surrogate(value)


def _has_lone_surrogate(text: str) -> bool:
    """Return whether a text has half of a surrogate pair, which JSON can express and UTF-8 cannot."""
    return any("\ud800" <= each <= "\udfff" for each in text)


def _base64(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _refusal(name: str, number: int, field: str, expected: str, got: object) -> Refused:
    return Refused("invalid", topic=f"{name} line {number}", field=field, expected=expected, got=got)
