"""The audit: who asked for what, and what was decided, in a stream that nobody shortens, each record chained to the one
before.

A record is stored before its answer leaves. It is written by compare-and-set after the one that this coordinator knows
as the last: of two coordinators that both believe to lead, one finds another record there, and goes on after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heliograph.bus.contract.audit_chain import Head, hash_of
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.features import WRITES
from heliograph.bus.contract.lanes import EXPECTED_LAST
from heliograph.bus.contract.payloads import AuditRecord
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.request_bodies import RequestBody
from heliograph.bus.contract.topics import AUDIT
from heliograph.bus.port import Port
from heliograph.bus.transport import Outgoing
from heliograph.coordinator.api.request import Request
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Conflict, HeliographError, Refused, Unreachable
from heliograph.core.failures import Failures
from heliograph.core.names import is_label

RIGHTS = ("forbidden", "not-yours", "not-a-reviewer", "not-joined")
"""Codes of refusals for lack of rights: these are recorded of requests that change nothing, too."""
UNKNOWN = "unknown"
MOST_AT_ONCE = 256
"""Records in one write, at most: under a flood of requests one sync serves many."""
_TRIES = 5
_ADDRESS = AUDIT.at()


@dataclass(frozen=True)
class Decision:
    """What is to be recorded; see ``AuditRecord``."""

    who: str
    what: str
    name: str = ""
    decision: Literal["accepted", "refused"] = "accepted"
    code: str = ""


class Audit:
    """Writes the records of one term.

    Args:
        signer: signs each record; None leaves them unsigned.
    """

    def __init__(self, port: Port, epoch: int, signer: Ed25519Signer | None, failures: Failures) -> None:
        self._port = port
        self._epoch = epoch
        self._signer = signer
        self._failures = failures
        self._writing = asyncio.Lock()
        self._waiting: list[Decision] = []
        self._asked = self._written = 0
        """Number of decisions that were to be recorded, and of those that have been dealt with."""
        self._last: tuple[Head, int] | None = None
        """The newest record and its sequence in the stream; None where they have to be read."""

    async def record(self, decision: Decision) -> None:
        """Store a decision, with those that wait meanwhile. One that cannot be stored is told in the log: what it
        decided has been done."""
        self._waiting.append(decision)
        self._asked += 1
        number = self._asked
        async with self._writing:
            while self._written < number:
                together, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                try:
                    await self._write(together)
                except HeliographError as error:
                    first = f"{decision.what} {decision.name} by {decision.who}"
                    self._failures.add(f"{len(together)} audit records, that of {first} among them", error)
                self._written += len(together)

    async def _write(self, decisions: Sequence[Decision]) -> None:
        """Store decisions, all or none."""
        stored: list[bytes] = []
        for _ in range(_TRIES):
            head, sequence = self._last or await self._read_last()
            if stored and head.hash == hash_of(stored[-1]):
                self._last = head, sequence
                return  # they were stored, and the answer was lost
            self._last, stored, last = None, [], head
            for decision in decisions:
                stored.append(self._encoded(decision, last))
                last = Head(last.n + 1, hash_of(stored[-1]))
            first = {EXPECTED_LAST: str(sequence)}
            events = [Outgoing(_ADDRESS, body, {} if place else first) for place, body in enumerate(stored)]
            try:
                await self._port.bus.publish_all(events)
            except (Conflict, Unreachable):
                continue  # another coordinator has written meanwhile, or the answer was lost
            self._last = last, sequence + len(stored)  # nothing but these records is in the stream
            return
        raise Conflict(f"{_ADDRESS}: {_TRIES} attempts failed")

    def _encoded(self, decision: Decision, before: Head) -> bytes:
        record = AuditRecord(
            n=before.n + 1, previous=before.hash, epoch=self._epoch, who=decision.who, what=decision.what,
            name=decision.name, decision=decision.decision, code=decision.code,
        )  # fmt: skip
        return encode(self._port.event(AUDIT, record, _ADDRESS), signer=self._signer)

    async def _read_last(self) -> tuple[Head, int]:
        message = await self._port.bus.last(_ADDRESS)
        if message is None:
            return Head(), 0
        try:
            n = self._port.read(AUDIT, message).payload.n
        except Refused:
            n = message.sequence  # somebody else's bytes: the chain goes on after them, and its check names them
        return Head(n, hash_of(message.body)), message.sequence


class AuditedRequests:
    """Handles requests, and records those that change something, and those that are refused for lack of rights."""

    def __init__(self, handle: Callable[[Request], Awaitable[Any]], audit: Audit) -> None:
        self._handle = handle
        self._audit = audit

    async def handle(self, request: Request) -> Any:
        """Return the result of the request, or raise its refusal, once it is recorded."""
        who, what, name = request.caller or UNKNOWN, f"{request.resource}/{request.verb}", _name_of(request)
        changes = _changes(request)  # read before: handling takes fields from the document
        try:
            result = await self._handle(request)
        except Refused as error:
            if changes or error.code in RIGHTS:
                await self._audit.record(Decision(who, what, name, "refused", error.code))
            raise
        if changes:
            await self._audit.record(Decision(who, what, name))
        return result


def _changes(request: Request) -> bool:
    """Return whether a request asks for a change; one to be tried alone does not."""
    if isinstance(request.document, dict) and request.document.get("dry_run") is True:
        return False
    if request.verb in WRITES:
        return True
    body = _body_of(request)
    return body is not None and body.changes


def _body_of(request: Request) -> type[RequestBody] | None:
    body = declared().features[request.resource].verb(request.verb).body
    return body if issubclass(body, RequestBody) else None


def _name_of(request: Request) -> str:
    """Return the name of what a request is about, of the edge that enrols by an invitation for example; empty for what
    is no name."""
    document = request.document
    if not isinstance(document, dict):
        return ""
    metadata, body = document.get("metadata"), _body_of(request)
    field = body.about if body is not None else "name"
    name = metadata.get("name") if isinstance(metadata, dict) else document.get(field)
    return name if isinstance(name, str) and is_label(name) else ""
