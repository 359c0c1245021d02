"""When each message of a trace is due, and which are chosen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract import registry
from heliograph.bus.contract.topics import Topic
from heliograph.bus.traces.event_time import nanoseconds
from heliograph.bus.traces.patterns import wanted_by
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused

GROUP = 256
GROUP_BYTES = 1024 * 1024
"""Messages, and bytes, that are published together where they are due at the same time."""


@dataclass(frozen=True)
class Choice:
    """Which messages of a trace are told again.

    Attributes:
        patterns: addresses; none: what ``is_told`` says.
        raw: also those of topics that are not declared.
    """

    patterns: tuple[str, ...] = ()
    raw: bool = False

    def asked_for(self) -> Callable[[str], bool]:
        """Whether an address is to be told again, were its topic declared."""
        if self.patterns:
            return wanted_by(self.patterns)
        return lambda address: (topic := registry.lookup(address)[0]) is None or is_told(topic)


def is_told(topic: Topic[Any]) -> bool:
    """Whether a topic's messages are told again where nobody names them: what edges and devices observe.

    Not what decides or states something (desired documents, a closed round, a status, a last value), which of a running
    cluster would be wrong; not one half of a conversation (requests and replies, acknowledgements, claims); and not
    what belongs to one run of one job, by its uid: in that run it counted already, and in any other it is wrong.
    """
    last_value = topic.stream is not None and topic.stream.last_value
    of_one_run = "job_uid" in topic.payload.model_fields
    return topic.delivery == "event" and topic.bridged == "up" and not last_value and not of_one_run


@dataclass(frozen=True)
class Span:
    """The part of a trace that is told again: nanoseconds since 1970, both included."""

    start: int
    end: int

    @staticmethod
    def parse(since: str, until: str, first: int, last: int) -> Span:
        """From seconds after the trace's start, or RFC 3339; empty for its own ends. Raises Refused."""
        start = _moment(since, "--from", first) if since else first
        end = _moment(until, "--until", first) if until else last
        if start > end:
            raise Refused("invalid", field="--until", expected="a time after --from", got=until or since)
        return Span(start, end)


def first_live(reader: TraceReader) -> int:
    """The log time of the first message that passed while it was recorded, rather than was there before."""
    if not any(reader.info.messages.values()):
        return 0
    for each in reader.messages():
        if not each.retained:
            return each.log_time
    return reader.info.end


def due(messages: Iterable[Recorded], start: int, speed: float) -> Iterator[tuple[float, Recorded]]:
    """Each message with the seconds after the beginning at which it is due; 0 for what was there before.

    Args:
        start: the log time that is the beginning.
        speed: how many recorded seconds pass in one; 0: all are due at once.
    """
    for each in messages:
        if each.retained or not speed:
            yield 0.0, each
        else:
            yield max(0.0, (each.log_time - start) / 1e9 / speed), each


def kind_of(address: str) -> str:
    """What is published together: a stream's events; everything else."""
    topic, _ = registry.lookup(address)
    return topic.stream.name if topic is not None and topic.stream is not None else ""


class Grouping:
    """Groups messages that are due together by the stream they go to, so that what one source told keeps its order
    also over streams. ``add`` says whether there is room; if not, what is there goes first."""

    def __init__(self) -> None:
        self._groups: list[tuple[str, list[object]]] = []
        self._open: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._count = 0
        self._bytes = 0

    def add(self, kind: str, source: str, size: int, message: object) -> bool:
        if self._count and (self._count >= GROUP or self._bytes + size > GROUP_BYTES):
            return False
        place = self._open.get(kind)
        if place is None:
            place = self._open[kind] = len(self._groups)
            self._groups.append((kind, []))
        elif self._last.get(source, 0) > place:
            return False
        self._last[source] = place
        self._groups[place][1].append(message)
        self._count += 1
        self._bytes += size
        return True

    def take(self) -> Sequence[tuple[str, list[object]]]:
        """The groups in the order in which they are to be published; this is empty afterwards."""
        groups = self._groups
        self.__init__()  # type: ignore[misc]
        return groups


def _moment(text: str, option: str, first: int) -> int:
    try:
        seconds = float(text)
        if 0 <= seconds < 1e10:
            return first + int(seconds * 1e9)
    except ValueError:
        if (found := nanoseconds(text)) is not None:
            return found
    expected = "seconds from the trace's start, or a time as 2026-11-21T20:15:00Z"
    raise Refused("invalid", field=option, expected=expected, got=text)
