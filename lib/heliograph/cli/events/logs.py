"""``logs``: the log records of all components, as lines; those of the past from the broker's stream of them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from heliograph.bus.contract.event import from_tree, is_event, parse
from heliograph.bus.contract.payloads import LogRecord
from heliograph.bus.contract.topics import LOG
from heliograph.cli.asking.streams_of import history_of
from heliograph.cli.printing.output import paint, printable, say
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

COMPONENT_WIDTH = 28
_EVERY = LOG.filter()
_STYLES = {"debug": "dim", "warning": "yellow", "error": "red"}


@dataclass(frozen=True)
class Wanted:
    """The records to write.

    Attributes:
        part: text that topic or component contains.
        errors: whether warnings and errors alone are wanted.
    """

    part: str = ""
    errors: bool = False

    def has(self, topic: str, record: LogRecord) -> bool:
        if self.errors and record.level not in ("warning", "error"):
            return False
        return self.part in topic or self.part in record.component


async def follow_logs(client: AsyncClient, wanted: Wanted, write: Callable[[str], None] = say) -> None:
    """Write each wanted record that comes, until cancelled."""

    def report_link(up: bool) -> None:
        print(f"{'following the logs of' if up else 'waiting for'} {client.server.shown}", file=sys.stderr, flush=True)

    async with client.bus.subscribe(_EVERY) as messages:
        client.bus.link.listen(report_link)
        try:
            async for message in messages:
                _write(message.topic, message.body, wanted, write)
        finally:
            client.bus.link.forget(report_link)


async def past_logs(
    client: AsyncClient,
    wanted: Wanted,
    since: float,
    follow: bool,
    tail: int | None = None,
    write: Callable[[str], None] = say,
) -> None:
    """Write the wanted records that the broker has since a time, in seconds since 1970 (0: all that it has); of these
    the newest ``tail``; with ``follow`` also those that come, until cancelled."""
    async with history_of(client, [_EVERY], since, "logs of the past") as history:
        newest: deque[str] = deque(maxlen=tail)
        keep = write if tail is None else newest.append
        async for each in history.past():
            _write(each.topic, each.body, wanted, keep)
        for line in newest:
            write(line)
        if follow:
            async for each in history.live():
                _write(each.topic, each.body, wanted, write)


def _write(topic: str, body: bytes, wanted: Wanted, write: Callable[[str], None]) -> None:
    record = read_record(topic, body)
    if wanted.has(topic, record):
        write(line_of(record))


def read_record(topic: str, body: bytes) -> LogRecord:
    """Return the record of an event or a bare document; return a warning about any other message."""
    try:
        tree = parse(body, topic)
        return LOG.validate(from_tree(tree, topic).data if is_event(tree) else tree, topic)
    except Refused as error:
        component = topic.partition("/log/")[2]
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
