"""The time in an event's envelope, read from its bytes without decoding the rest where ``event.encode`` wrote it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from heliograph.bus.contract.event import parse
from heliograph.bus.traces import layout
from heliograph.core.errors import Refused

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HEAD = 1200
"""Bytes within which ``event.encode`` writes ``time``: three attributes of at most 256 characters precede it."""
_PACKED, _TEXT = b"\xa4time\xbb", b',"time":"'
_LENGTH = 27


def nanoseconds(text: str) -> int | None:
    """Parse RFC 3339 as nanoseconds since 1970, to the microsecond; return None if invalid or without a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    found = (moment - _EPOCH) // _MICROSECOND * 1000
    return found if 0 <= found <= layout.MAX_TIME else None


def event_time(body: bytes) -> int | None:
    """Return an event's time in nanoseconds since 1970; None if it has none, or the body is no event."""
    if b"specversion" not in body[:_HEAD]:
        return None
    packed = 0x80 <= body[0] <= 0x8F
    at = body.find(_PACKED if packed else _TEXT, 0, _HEAD)
    if at > 0:
        at += len(_PACKED if packed else _TEXT)
        found = nanoseconds(body[at : at + _LENGTH].decode("ascii", "replace"))
        if found is not None:
            return found
    try:
        tree = parse(body)
    except Refused:
        return None
    text = tree.get("time") if isinstance(tree, dict) else None
    return nanoseconds(text) if isinstance(text, str) else None
