"""What a run leaves behind: what the devices say, and what the cloud's streams, records and documents say."""

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
from heliograph.bus.contract.topics import AGGREGATION, MODEL_UPDATE, TELEMETRY, Topic
from heliograph.bus.transport import Bus, Message
from heliograph.simulations.faults.deterministic_training import Array
from heliograph.simulations.faults.keeping_device import Life

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True)
class Arrival:
    """One message of the stream of telemetry."""

    edge: str
    event: Event
    headers: Mapping[str, str]
    sequence: int


@dataclass
class Evidence:
    """Everything the invariants are judged by.

    Attributes:
        lives: each edge's device's incarnations, oldest first.
        telemetry: the stream's messages, in its order.
        followed: the stream's sequences as a consumer saw them that read along while the faults went on.
        jobs: the last document of each job.
        records: the close records, from key-value.
        told: the events that a round is closed, from their stream, repeats and all.
        updates: the updates that reached the cloud, from their stream, repeats and all.
        samples: each edge's training data.
        incidents: what else must not be: processes that ended by themselves, waits that were in vain.
    """

    lives: dict[str, list[Life]] = field(default_factory=dict)
    telemetry: list[Arrival] = field(default_factory=list)
    followed: list[int] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    records: list[Aggregation] = field(default_factory=list)
    told: list[Aggregation] = field(default_factory=list)
    updates: list[ModelUpdate] = field(default_factory=list)
    samples: dict[str, Array] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)


async def collect(bus: Bus, lives: dict[str, list[Life]], samples: Mapping[str, Array], timeout: float) -> Evidence:
    """Reads all that the cloud holds. What the devices have sent is waited for, ``timeout`` seconds."""
    found = Evidence(lives=lives, samples=dict(samples))
    wanted = {(each.source, each.acknowledged) for known in lives.values() for each in known if each.acknowledged}

    def arrived(message: Message) -> bool:
        event = decode(message.body, message.topic)
        found.telemetry.append(Arrival(message.topic.split("/")[2], event, message.headers, message.sequence))
        wanted.discard((event.source, event.sequence or 0))
        return not wanted

    with contextlib.suppress(TimeoutError):  # what has not come the invariants will miss
        async with asyncio.timeout(timeout):
            await _read(bus, TELEMETRY, arrived)
    found.updates = [each async for each in _payloads(bus, MODEL_UPDATE)]
    found.told = [each async for each in _payloads(bus, AGGREGATION)]
    entries = await (await bus.kv(ROUNDS)).entries()
    found.records = [close_record.load(each.value) for each in entries]
    return found


class Follower:
    """A consumer that reads telemetry along, from the stream's beginning, whatever becomes of the broker."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._arrived = asyncio.Event()
        self.seen: list[int] = []

    async def run(self) -> None:
        """Until cancelled."""
        async with self._bus.consume(TELEMETRY.filter()) as messages:
            async for message in messages:
                self.seen.append(message.sequence)
                self._arrived.set()

    async def reach(self, sequence: int, timeout: float) -> list[int]:
        """What it has seen once it has come so far, or after ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while sequence not in self.seen[-1:]:
                    self._arrived.clear()
                    await self._arrived.wait()
        return self.seen


async def _read(bus: Bus, topic: Topic[Any], take: Callable[[Message], bool]) -> None:
    """Hands a stream's messages to ``take``, at least up to its newest of now, and until that says enough."""
    newest = await bus.last_sequence(topic.stream_name)
    async with bus.consume(topic.filter()) as messages:
        enough, at = not newest, 0
        while not enough or at < newest:
            message = await anext(messages)
            at, enough = message.sequence, take(message)


async def _payloads(bus: Bus, topic: Topic[P]) -> AsyncIterator[P]:
    found: list[P] = []

    def take(message: Message) -> bool:
        found.append(topic.validate(decode(message.body, message.topic).data, message.topic))
        return True

    await _read(bus, topic, take)
    for each in found:
        yield each
