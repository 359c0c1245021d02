"""The selection and timing of a trace's messages in a replay; pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract import registry
from heliograph.bus.contract.topics import Topic
from heliograph.bus.traces.event_time import nanoseconds
from heliograph.bus.traces.patterns import matcher
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused

GROUP = 256
GROUP_BYTES = 1024 * 1024
"""Largest number of messages, and of bytes, due at the same time that are published together."""


@dataclass(frozen=True)
class Choice:
    """The selection of messages to replay.

    Attributes:
        patterns: patterns of addresses; without any, the topics that ``is_replayed`` selects.
        raw: True to include undeclared topics.
    """

    patterns: tuple[str, ...] = ()
    raw: bool = False

    def selector(self) -> Callable[[str], bool]:
        """Return a function from an address to whether to replay it, without regard to ``raw``."""
        if self.patterns:
            return matcher(self.patterns)
        return lambda address: (topic := registry.lookup(address)[0]) is None or is_replayed(topic)


def is_replayed(topic: Topic[Any]) -> bool:
    """Return whether a topic is replayed by default: the observations of edges and devices are.

    Decisions and states (desired documents, closed rounds, status, last values) are not: they would be wrong in a
    running cluster. Halves of a conversation (requests, replies, acknowledgements, claims) are not. Messages of one run
    of one job, by its uid, are not: they counted in that run, and are wrong in any other.
    """
    last_value = topic.stream is not None and topic.stream.last_value
    of_one_run = "job_uid" in topic.payload.model_fields
    return topic.delivery == "event" and topic.bridged == "up" and not last_value and not of_one_run


@dataclass(frozen=True)
class Span:
    """The part of a trace to replay: first and last log time in nanoseconds since 1970."""

    start: int
    end: int

    @staticmethod
    def parse(since: str, until: str, first: int, last: int) -> Span:
        """Parse seconds after the trace's start, or RFC 3339; an empty text means the trace's own end.

        Raise Refused if a text is neither, or the span ends before it starts.
        """
        start = _moment(since, "--from", first) if since else first
        end = _moment(until, "--until", first) if until else last
        if start > end:
            raise Refused("invalid", field="--until", expected="a time after --from", got=until or since)
        return Span(start, end)


def first_live(reader: TraceReader) -> int:
    """Return the log time of the first message that was published during the recording; 0 without messages."""
    if not any(reader.info.messages.values()):
        return 0
    for each in reader.messages():
        if not each.retained:
            return each.log_time
    return reader.info.end


def due(messages: Iterable[Recorded], start: int, speed: float) -> Iterator[tuple[float, Recorded]]:
    """Yield each message with its due time in seconds after the beginning; 0 for those from before the recording.

    Args:
        start: log time of the beginning.
        speed: recorded seconds replayed in each second; at 0 all are due at once.
    """
    for each in messages:
        if each.retained or not speed:
            yield 0.0, each
        else:
            yield max(0.0, (each.log_time - start) / 1e9 / speed), each


def kind_of(address: str) -> str:
    """Return the group of messages published together: the name of the stream, or empty for all others."""
    topic, _ = registry.lookup(address)
    return topic.stream.name if topic is not None and topic.stream is not None else ""


class Grouping:
    """Messages that are due together, grouped by stream; messages of one source keep their order across streams."""

    def __init__(self) -> None:
        self._groups: list[tuple[str, list[object]]] = []
        self._open: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._count = 0
        self._bytes = 0

    def add(self, kind: str, source: str, size: int, message: object) -> bool:
        """Add a message and return True; return False if ``drain`` must come first."""
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

    def drain(self) -> Sequence[tuple[str, list[object]]]:
        """Remove and return the groups in the order in which to publish them."""
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
    expected = "seconds from the trace's start, or a time such as 2026-11-21T20:15:00Z"
    raise Refused("invalid", field=option, expected=expected, got=text)
