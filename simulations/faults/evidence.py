"""The evidence of a run: the devices' counts, and the cloud's streams, close records and documents."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from heliograph.bus.contract import close_record
from heliograph.bus.contract.buckets import ROUNDS
from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.payloads import Aggregation, ModelUpdate
from heliograph.bus.contract.topics import AGGREGATION, MODEL_UPDATE, REPORT, TELEMETRY, Topic
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import Refused
from heliograph.simulations.faults.deterministic_training import Array
from heliograph.simulations.faults.keeping_device import Life

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True)
class Arrival:
    """One message of the telemetry stream."""

    edge: str
    device: str
    event: Event
    headers: Mapping[str, str]
    sequence: int


@dataclass
class Evidence:
    """The input of the invariants.

    Attributes:
        lives: incarnations of each edge's device, oldest first.
        telemetry: messages of the stream, in its order.
        followed: sequence numbers seen by a consumer that read the stream during the faults.
        jobs: last document of each job.
        records: close records from the key-value store.
        close_events: events of closed rounds from their stream, with repeats.
        updates: updates in their stream, with repeats.
        samples: training data of each edge.
        dropped: by edge, the events that it has reported as dropped.
        incidents: descriptions of processes that ended by themselves, and of waits that timed out.
    """

    lives: dict[str, list[Life]] = field(default_factory=dict)
    telemetry: list[Arrival] = field(default_factory=list)
    followed: list[int] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    records: list[Aggregation] = field(default_factory=list)
    close_events: list[Aggregation] = field(default_factory=list)
    updates: list[ModelUpdate] = field(default_factory=list)
    samples: dict[str, Array] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)


async def collect(bus: Bus, lives: dict[str, list[Life]], samples: Mapping[str, Array], timeout: float) -> Evidence:
    """Read all evidence from the cloud; wait up to ``timeout`` seconds for the devices' acknowledged events."""
    found = Evidence(lives=lives, samples=dict(samples))
    wanted = {(each.source, each.acknowledged) for known in lives.values() for each in known if each.acknowledged}

    def arrived(message: Message) -> bool:
        params = TELEMETRY.match(message.topic) or {"edge": "", "device": ""}
        event = _event_in(message)
        found.telemetry.append(Arrival(params["edge"], params["device"], event, message.headers, message.sequence))
        wanted.discard((event.source, event.sequence or 0))
        return not wanted

    with contextlib.suppress(TimeoutError):  # the invariants report the missing events
        async with asyncio.timeout(timeout):
            await _read(bus, TELEMETRY, arrived)
    found.updates = [each async for each in _payloads(bus, MODEL_UPDATE)]
    found.close_events = [each async for each in _payloads(bus, AGGREGATION)]
    found.dropped = {each.edge: each.dropped_events async for each in _payloads(bus, REPORT)}
    entries = await (await bus.kv(ROUNDS)).entries()
    found.records = [close_record.load(each.value) for each in entries if close_record.is_record(each.key)]
    return found


class Follower:
    """A consumer that reads telemetry from the start of the stream, through all faults of the broker."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._arrived = asyncio.Event()
        self.seen: list[int] = []

    async def run(self) -> None:
        """Read until cancelled."""
        async with self._bus.consume(TELEMETRY.filter()) as messages:
            async for message in messages:
                self.seen.append(message.sequence)
                self._arrived.set()

    async def reach(self, sequence: int, timeout: float) -> list[int]:
        """Return the sequence numbers seen, once ``sequence`` is the last one or after ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while sequence not in self.seen[-1:]:
                    self._arrived.clear()
                    await self._arrived.wait()
        return self.seen


async def _read(bus: Bus, topic: Topic[Any], take: Callable[[Message], bool]) -> None:
    """Call ``take`` with a stream's messages, at least up to the present end, until it returns True."""
    newest = await bus.last_sequence(topic.stream_name)
    async with bus.consume(topic.filter()) as messages:
        enough, at = not newest, 0
        while not enough or at < newest:
            message = await anext(messages)
            at, enough = message.sequence, take(message)


async def _payloads(bus: Bus, topic: Topic[P]) -> AsyncIterator[P]:
    found: list[P] = []

    def take(message: Message) -> bool:
        with contextlib.suppress(Refused):  # a hostile edge's
            found.append(topic.validate(decode(message.body, message.topic).data, message.topic))
        return True

    await _read(bus, topic, take)
    for each in found:
        yield each


def _event_in(message: Message) -> Event:
    """Return a message's event; a hostile edge's may be none."""
    try:
        return decode(message.body, message.topic)
    except Refused:
        return Event("", "", "", message.body)
