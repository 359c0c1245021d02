"""A trace loaded for a replay: its messages, decoded and on one axis of time, and its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.event import Event, from_tree, is_event, parse
from heliograph.bus.contract.event_signature import check_event_signature, is_signed, shown_key, signer_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import Topic
from heliograph.bus.traces.event_time import nanoseconds
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest

WARM = 5.0
"""Seconds for which a component runs before the first live message, so that it has read the state from before the
recording."""
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One recorded message.

    Attributes:
        number: position in the trace.
        at: time of arrival at the broker, in seconds; 0 for messages from before the recording.
        emitted: time in the event, in seconds; ``at`` if the event has no time or a later one.
        source: source of the event; empty for a bare document.
        data: payload as a tree; None for an empty message.
    """

    number: int
    address: str
    topic: Topic[Any]
    params: Mapping[str, str]
    at: float
    emitted: float
    source: str
    data: Any
    body: bytes
    headers: Mapping[str, str]
    retained: bool


@dataclass
class LoadedTrace:
    """A loaded trace.

    Attributes:
        begin: time of the first live message in nanoseconds since 1970; it is at ``WARM`` seconds.
        end: time of the last message, in seconds.
        problems: descriptions of unreadable parts of the file.
        weights: weights by digest, from the events or attached to the trace.
        signatures: number of messages that a key has signed, by the beginning of the public key.
        forged: descriptions of signatures that do not hold.
    """

    path: Path
    messages: list[RecordedMessage] = field(default_factory=list)
    begin: int = 0
    end: float = WARM
    problems: list[str] = field(default_factory=list)
    weights: dict[str, bytes] = field(default_factory=dict)
    signatures: Counter[str] = field(default_factory=Counter)
    forged: list[str] = field(default_factory=list)
    _groups: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[tuple[str, ...], list[RecordedMessage]]] = field(
        default_factory=dict
    )

    @staticmethod
    def read(path: Path) -> LoadedTrace:
        """Load a trace. Raises the errors of ``TraceReader``; damaged parts are listed in ``problems``."""
        found = LoadedTrace(path)
        with TraceReader(path) as reader:
            recorded = list(reader)
            live = [each.log_time for each in recorded if not each.retained]
            found.begin = min(live, default=0)
            for number, each in enumerate(recorded):
                message = found._decoded(number, each)
                if message is not None:
                    found.messages.append(message)
                    found.weights.update(_inline(message.data))
            found.weights.update((name, data) for name, data in reader.attachments() if is_digest(name))
            found.problems += reader.problems
        found.end = max((each.at for each in found.messages), default=WARM)
        return found

    def of(self, *wanted: Topic[Any], **params: str) -> list[RecordedMessage]:
        """Return the messages of these topics whose addresses have these parameters, in their order."""
        patterns = tuple(each.pattern for each in wanted)
        names = tuple(sorted(params))
        groups = self._groups.get((patterns, names))
        if groups is None:  # grouped once, because callers query each of many edges
            groups = self._groups[patterns, names] = {}
            for each in self.messages:
                if each.topic.pattern in patterns:
                    groups.setdefault(tuple(each.params.get(name, "") for name in names), []).append(each)
        return groups.get(tuple(params[name] for name in names), [])

    def edges(self) -> list[str]:
        """Return the edges of the trace, ordered by name."""
        return sorted({each.params["edge"] for each in self.of(topics.TASK, topics.REPORT, topics.CLAIM)})

    def seconds(self, timestamp: str) -> float | None:
        """Convert an RFC 3339 time to seconds on the trace's axis; None if the text is no time."""
        moment = nanoseconds(timestamp)
        return None if moment is None else WARM + (moment - self.begin) / 1e9

    def _decoded(self, number: int, recorded: Recorded) -> RecordedMessage | None:
        topic, params = registry.lookup(recorded.topic)
        if topic is None:
            return None
        at = 0.0 if recorded.retained else WARM + (recorded.log_time - self.begin) / 1e9
        source, emitted, data = "", at, None
        try:
            if recorded.body:
                data = parse(recorded.body, recorded.topic)
            if isinstance(data, dict) and is_event(data):
                event = from_tree(data, recorded.topic)
                self._check_signature(event, recorded)
                source, data = event.source, event.data
                emitted = min(at, found) if (found := self.seconds(event.time)) is not None else at
        except Refused as error:
            if topic.delivery != "request":  # the coordinator answers any request
                self.problems.append(str(error))
                return None
        return RecordedMessage(number, recorded.topic, topic, dict(params), at, emitted, source, data, recorded.body,
                     recorded.headers, recorded.retained)  # fmt: skip

    def _check_signature(self, event: Event, recorded: Recorded) -> None:
        """Count an event's signature, by the key that it names: whom the cluster trusted is not in a trace."""
        if not event.signed_by and not is_signed(recorded.body):
            return
        public = signer_of(event)
        try:
            check_event_signature(event, recorded.body, recorded.topic, () if public is None else (public,), "its key")
        except Refused as error:
            self.forged.append(str(error))
        else:
            self.signatures[shown_key(public or b"")] += 1


def references(tree: Any, depth: int = 0) -> Iterator[WeightsRef]:
    """Return every reference to weights in a payload, at any depth."""
    if depth > _DEEPEST:
        return
    if isinstance(tree, dict):
        if is_digest(tree.get("digest")) and ("bucket" in tree or "inline" in tree):
            try:
                yield WeightsRef.model_validate(tree, extra="ignore")
            except ValidationError:
                return
            return
        tree = list(tree.values())
    if isinstance(tree, list):
        for each in tree:
            yield from references(each, depth + 1)


def _inline(tree: Any) -> Iterator[tuple[str, bytes]]:
    for ref in references(tree):
        if ref.inline is not None:
            yield ref.digest, ref.inline
