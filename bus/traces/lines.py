"""A trace as JSON lines: one message on each line, its body in base64, so that an import restores the same bytes.

The first line is ``{"trace": {...}}``, the trace's metadata; ``{"attachment": digest, "data": base64}`` is a blob. A
message's line may have ``message``, the decoded body, for people: to change a message, change ``message`` and remove
``body``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from heliograph.bus.contract.event import parse
from heliograph.bus.traces import layout
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.errors import HeliographError, Refused

MAX_LINE = 2 * layout.MAX_ATTACHMENT
"""Largest size of a line in bytes."""
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


def parse_first_line(line: bytes, name: str) -> dict[str, str] | None:
    """Return the trace's metadata from the first line; None if the line is a message. Raise Refused if invalid."""
    tree = _tree(line, name, 1)
    if "trace" not in tree:
        return None
    found = tree["trace"]
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise _refusal(name, 1, "trace", "a mapping of strings", found)
    version = str(found.pop("version", layout.VERSION))
    if not version.isdigit() or not 0 < int(version[:9]) <= layout.VERSION:
        raise Refused("newer", topic=f"{name} line 1", field="version", expected=f"at most {layout.VERSION}",
                      got=version, hint="pip install -U heliograph")  # fmt: skip
    return found


def write_line(line: bytes, name: str, number: int, writer: TraceWriter) -> None:
    """Write a line's message or attachment to a trace. Raise Refused naming the line and the bad field."""
    tree = _tree(line, name, number)
    if "attachment" in tree:
        data = _decoded(tree.get("data"), name, number, "data")
        try:
            writer.attach(str(tree["attachment"]), data)
        except Refused as error:
            raise _refusal(name, number, "attachment", error.expected, error.got) from None
        return
    writer.write(message_of(tree, name, number))


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
            raise Refused("conflict", topic=f"{name} line {number}", field="message", expected="the decoded body",
                          got="something else", hint="To change a message, remove its body.")  # fmt: skip
    elif "message" in tree:
        body = json.dumps(tree["message"], separators=(",", ":"), ensure_ascii=False).encode()
    else:
        raise _refusal(name, number, "body", "base64", "nothing")
    return Recorded(topic, body, log_time, publish_time, headers, retained)


def lines_of(file: BinaryIO, name: str) -> Iterable[tuple[int, bytes]]:
    """Yield each line that is not empty, with its number. Raise Refused if one is longer than ``MAX_LINE``."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise Refused("too-large", topic=f"{name} line {number}", expected=f"at most {MAX_LINE} bytes")
        if line.strip():
            yield number, line


def _tree(line: bytes, name: str, number: int) -> dict[str, Any]:
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


def _has_lone_surrogate(text: str) -> bool:
    """Return whether a text has half of a surrogate pair, which JSON can express and UTF-8 cannot."""
    return any("\ud800" <= each <= "\udfff" for each in text)


def _base64(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _refusal(name: str, number: int, field: str, expected: str, got: object) -> Refused:
    return Refused("invalid", topic=f"{name} line {number}", field=field, expected=expected, got=got)
