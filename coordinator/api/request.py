"""A request as the door hands it on, and an answer that is more than a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heliograph.coordinator.authorization.rights import Rights


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has arrived.

    Attributes:
        document: the parsed body; the handler may change it.
        caller: the login that the broker names, or the caller that its reply address names; empty without both.
        rights: what the caller may do.
        heavy: whether validating the document takes long enough to do it in a thread.
        read: called once the document has been read, so that the next heavy one may be.
        spend: called with bytes that the request costs its caller beside those of request and answer.
    """

    resource: str
    verb: str
    document: Any
    topic: str
    caller: str = ""
    rights: Rights = field(default_factory=Rights)
    heavy: bool = False
    read: Callable[[], None] = lambda: None
    spend: Callable[[int], None] = lambda size: None


@dataclass(frozen=True, slots=True)
class Answer:
    """A result as JSON, with fields beside it, such as where a list continues."""

    result: bytes
    beside: Mapping[str, Any] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Return the whole reply."""
        beside = json.dumps(self.beside, allow_nan=False)[1:].encode() if self.beside else b"}"
        return b'{"ok": true, "result": ' + self.result + (b", " if self.beside else b"") + beside
