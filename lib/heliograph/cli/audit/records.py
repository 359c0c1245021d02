"""Reading the audit's stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from heliograph.bus.contract.audit_chain import ChainCheck, Head
from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.payloads import AuditRecord
from heliograph.bus.contract.topics import AUDIT
from heliograph.cli.asking.streams_of import history_of
from heliograph.cli.printing.output import paint, printable, say
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.nats.history import Stored
    from heliograph.client import AsyncClient

_WHO, _WHAT = 20, 24


@dataclass(frozen=True)
class Wanted:
    """The records to show; empty texts and False want all."""

    who: str = ""
    what: str = ""
    refused: bool = False

    def has(self, record: AuditRecord) -> bool:
        if self.refused and record.decision != "refused":
            return False
        return (not self.who or record.who == self.who) and self.what in f"{record.what}/{record.name}"


async def show(
    client: AsyncClient, wanted: Wanted, since: float, follow: bool, write: Callable[[Event, AuditRecord], None]
) -> int:
    """Pass on the wanted records since a time, with ``follow`` without end; return their number."""
    shown = 0

    def take(stored: Stored) -> None:
        nonlocal shown
        try:
            event = decode(stored.body, stored.topic)
            record = AUDIT.validate(event.data, stored.topic)
        except Refused as error:
            say(paint(f"no audit record: {printable(str(error))}", "yellow"))
            return
        if wanted.has(record):
            shown += 1
            write(event, record)

    async with history_of(client, [AUDIT.filter()], since, "audit") as history:
        async for each in history.past():
            take(each)
        if follow:
            async for each in history.live():
                take(each)
    return shown


async def check(client: AsyncClient, known: Head | None, trusted: Collection[bytes]) -> ChainCheck:
    """Return the check of all records that the stream has by now."""
    found = ChainCheck(trusted, known)
    async with history_of(client, [AUDIT.filter()], 0, "audit verify") as history:
        async for each in history.past():
            found.take(each.body, each.topic)
    found.end()
    return found


def line_of(event: Event, record: AuditRecord) -> str:
    """Return ``2026-11-28 14:03:22  alice  jobs/create  digits  accepted``, in local time."""
    decision = record.decision if record.decision == "accepted" else paint(f"refused: {record.code}", "red")
    who, what = printable(record.who).ljust(_WHO), printable(record.what).ljust(_WHAT)
    return f"{paint(_clock(event.time), 'dim')}  {who}  {what}  {printable(record.name or '-')}  {decision}"


def as_json(event: Event, record: AuditRecord) -> str:
    return json.dumps({"time": event.time, **record.model_dump()})


def _clock(time: str) -> str:
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return "----"
