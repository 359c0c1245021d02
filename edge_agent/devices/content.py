"""A device's payload as data and their content type.

No payload is refused for its form. JSON and MessagePack maps become trees, which every reader can handle; all else is
kept as the text or the bytes that it is.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from heliograph.bus.contract.event import JSON_TYPE, is_event, parse
from heliograph.core.errors import Refused

TEXT = "text/plain"
BINARY = "application/octet-stream"
GZIP = "application/gzip"
EVENT = "application/cloudevents+json"
"""Content type of a CloudEvents event of somebody else, which is data here."""
_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
"""First bytes of MessagePack's maps, which no JSON text begins with."""
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,63}( ?;[ -~]{0,63})?", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class Content(NamedTuple):
    """Data and their content type, which is empty for a tree: that is JSON's, whatever it was encoded in."""

    data: Any
    type: str = ""


def content_of(body: bytes, content_type: str = "") -> Content:
    """Return a payload's data.

    Args:
        content_type: as the publisher or a rule says it; empty where the payload decides.
    """
    said = content_type if _MEDIA_TYPE.fullmatch(content_type) else ""
    kind = said.partition(";")[0].strip().lower()
    if not said or kind.endswith(("json", "msgpack")):
        try:
            tree = _tree(body)
        except ValueError:
            return _unparsed(body, "" if kind.endswith("json") else said)
        return Content(tree, EVENT if _is_cloud_event(tree) else "" if kind in ("", JSON_TYPE) else said)
    return _unparsed(body, said)


def _is_cloud_event(tree: Any) -> bool:
    return is_event(tree) and isinstance(tree["specversion"], str) and "source" in tree


def _unparsed(body: bytes, said: str) -> Content:
    if said and not said.lower().startswith("text/"):
        return Content(body, said)
    text = _text(body)
    if text is None:
        return Content(body, said or (GZIP if body[:2] == b"\x1f\x8b" else BINARY))
    return Content(text, said or TEXT)


def _text(body: bytes) -> str | None:
    """Return the payload as text, where it is UTF-8 that a person may have written."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.search(text) else text


def _tree(body: bytes) -> Any:
    """Return the tree of a JSON text or a MessagePack map. Raise ValueError where it is neither, or a tree would keep
    less than the payload has, or is beyond the bounds of every document."""
    try:
        tree = parse(body)
    except Refused as refusal:
        raise ValueError from refusal
    if isinstance(tree, dict | list) and body[0] not in _MAPS:
        _ONCE.decode(body.decode(json.detect_encoding(body)))
    return tree


def _with_keys_once(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError


_ONCE = json.JSONDecoder(object_pairs_hook=_with_keys_once)
