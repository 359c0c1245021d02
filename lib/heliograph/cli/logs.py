"""``logs``: the log records of all components, as lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from heliograph.bus.contract.event import from_tree, is_event, parse
from heliograph.bus.contract.payloads import LogRecord
from heliograph.bus.contract.topics import LOG
from heliograph.cli.output import paint, printable, say
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.transport import Message
    from heliograph.client import AsyncClient

COMPONENT_WIDTH = 28
_STYLES = {"debug": "dim", "warning": "yellow", "error": "red"}


async def follow_logs(
    client: AsyncClient, wanted: str = "", errors_only: bool = False, write: Callable[[str], None] = say
) -> None:
    """Write each record whose topic or component contains ``wanted``, until cancelled."""

    def report_link(up: bool) -> None:
        print(f"{'following the logs of' if up else 'waiting for'} {client.server.shown}", file=sys.stderr, flush=True)

    async with client.bus.subscribe(LOG.pattern.replace("{component}/", "")) as messages:
        client.bus.link.listen(report_link)
        try:
            async for message in messages:
                record = read_record(message)
                if errors_only and record.level not in ("warning", "error"):
                    continue
                if wanted in message.topic or wanted in record.component:
                    write(line_of(record))
        finally:
            client.bus.link.forget(report_link)


def read_record(message: Message) -> LogRecord:
    """Return the record of an event or a bare document; return a warning about any other message."""
    try:
        tree = parse(message.body, message.topic)
        return LOG.validate(from_tree(tree, message.topic).data if is_event(tree) else tree, message.topic)
    except Refused as error:
        component = message.topic.removeprefix("log/")
        return LogRecord(level="warning", component=component, message=f"not a log record: {error}")


def line_of(record: LogRecord) -> str:
    """Return ``14:03:22.105  edge-1/worker/train  message``, in local time."""
    level = f"{record.level}: " if record.level in ("warning", "error") else ""
    dropped = record.fields.get("dropped_before")
    lost = f"({dropped} lines before this one were dropped) " if isinstance(dropped, int) else ""
    text = paint(f"{lost}{level}{printable(record.message.rstrip())}", _STYLES.get(record.level, ""))
    component = printable(record.component).ljust(COMPONENT_WIDTH)
    return f"{paint(_clock(record.time), 'dim')}  {paint(component, 'cyan')}  {text}"


def _clock(time: str) -> str:
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S.%f")[:12]
    except (ValueError, OverflowError):
        return "--:--:--.---"
