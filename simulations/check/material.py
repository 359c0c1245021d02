"""What a trace holds, ready to be played: its messages decoded, on one axis of time, and the weights that it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.event import from_tree, is_event, parse
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import Topic
from heliograph.bus.traces.event_time import nanoseconds
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest

WARM = 5.0
"""Seconds that a component runs before the first live message: what was there before the recording began has reached
it by then."""
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Heard:
    """One recorded message.

    Attributes:
        number: its place in the trace.
        at: seconds at which the broker had it; 0 for what it held before the recording began.
        told: seconds at which its event says that it was told; ``at`` where it names no time, or a later one.
        source: its event's; empty of a bare document.
        data: the payload as a tree; None of an empty message.
    """

    number: int
    address: str
    topic: Topic[Any]
    params: Mapping[str, str]
    at: float
    told: float
    source: str
    data: Any
    body: bytes
    headers: Mapping[str, str]
    retained: bool


@dataclass
class Material:
    """A trace, read.

    Attributes:
        begin: nanoseconds since 1970 of the first live message, which is at ``WARM`` seconds.
        end: seconds of the last message.
        problems: what of the file could not be read.
        weights: by digest, those that are in the trace: inside its events, or attached.
    """

    path: Path
    messages: list[Heard] = field(default_factory=list)
    begin: int = 0
    end: float = WARM
    problems: list[str] = field(default_factory=list)
    weights: dict[str, bytes] = field(default_factory=dict)
    _groups: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[tuple[str, ...], list[Heard]]] = field(
        default_factory=dict
    )

    @staticmethod
    def read(path: Path) -> Material:
        """Raises as ``TraceReader`` does; what is damaged is named among the problems."""
        found = Material(path)
        with TraceReader(path) as reader:
            recorded = list(reader)
            live = [each.log_time for each in recorded if not each.retained]
            found.begin = min(live, default=0)
            for number, each in enumerate(recorded):
                heard = found._heard(number, each)
                if heard is not None:
                    found.messages.append(heard)
                    found.weights.update(_inline(heard.data))
            found.weights.update((name, data) for name, data in reader.attachments() if is_digest(name))
            found.problems += reader.problems
        found.end = max((each.at for each in found.messages), default=WARM)
        return found

    def of(self, *wanted: Topic[Any], **params: str) -> list[Heard]:
        """The messages of these topics whose addresses have these parameters, in their order."""
        patterns = tuple(each.pattern for each in wanted)
        names = tuple(sorted(params))
        groups = self._groups.get((patterns, names))
        if groups is None:  # there may be many edges, and of each is asked
            groups = self._groups[patterns, names] = {}
            for each in self.messages:
                if each.topic.pattern in patterns:
                    groups.setdefault(tuple(each.params.get(name, "") for name in names), []).append(each)
        return groups.get(tuple(params[name] for name in names), [])

    def edges(self) -> list[str]:
        """Every edge of which the trace tells, by name."""
        told = self.of(topics.TASK, topics.REPORT, topics.CLAIM)
        return sorted({each.params["edge"] for each in told})

    def seconds(self, timestamp: str) -> float | None:
        """A time of the recording, RFC 3339, on this axis; None where it is none."""
        moment = nanoseconds(timestamp)
        return None if moment is None else WARM + (moment - self.begin) / 1e9

    def _heard(self, number: int, recorded: Recorded) -> Heard | None:
        topic, params = registry.lookup(recorded.topic)
        if topic is None:
            return None
        at = 0.0 if recorded.retained else WARM + (recorded.log_time - self.begin) / 1e9
        source, told, data = "", at, None
        try:
            if recorded.body:
                data = parse(recorded.body, recorded.topic)
            if isinstance(data, dict) and is_event(data):
                event = from_tree(data, recorded.topic)
                source, data = event.source, event.data
                told = min(at, found) if (found := self.seconds(event.time)) is not None else at
        except Refused as error:
            if topic.delivery != "request":  # a request may be anything: the coordinator answers it
                self.problems.append(str(error))
                return None
        return Heard(number, recorded.topic, topic, dict(params), at, told, source, data, recorded.body,
                     recorded.headers, recorded.retained)  # fmt: skip


def references(tree: Any, depth: int = 0) -> Iterator[WeightsRef]:
    """Every reference to weights that stands anywhere in a payload."""
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
