"""Replaying: a trace's messages, published again in their order and at their distances in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from heliograph.bus.mqtt.bus import MqttBus
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.traces.again import HEADERS, Again, Names, again
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.schedule import Choice, Grouping, Span, due, kind_of
from heliograph.bus.transport import Bus, Outgoing
from heliograph.core.errors import Forbidden, HeliographError, LinkDown, NobodyAnswers, Refused, Unreachable
from heliograph.core.world import World

WAIT_FOR_LINK = 10.0
"""Seconds without the broker after which the rest is given up."""
_KINDS_SAID = 8


@dataclass
class Told:
    """What became of a trace's messages.

    Attributes:
        asked: how many were to be published.
        published: how many were.
        refused: why others were not, and how many for each reason.
        left: how many of each topic are not told again unless they are named.
        unknown: how many of each address no topic is declared for, and ``raw`` was not said.
    """

    asked: int = 0
    published: int = 0
    seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def complete(self) -> bool:
        return self.published == self.asked


class Replayer:
    """Publishes a trace's messages on a bus, each marked as replayed.

    Args:
        bus: open.
        speed: how many recorded seconds pass in one; 0: as fast as the broker takes them.
        tell: called with how many have been dealt with, as they are.
    """

    def __init__(
        self,
        bus: Bus,
        world: World,
        *,
        choice: Choice | None = None,
        names: Names | None = None,
        speed: float = 1.0,
        tell: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.told = Told()
        self._bus = bus
        self._world = world
        self._choice = choice or Choice()
        self._names = names or Names({})
        self._speed = speed
        self._tell = tell
        self._grouping = Grouping()
        self._down = ""

    async def run(self, reader: TraceReader, span: Span) -> Told:
        """Once through the part of the trace; called again it goes on counting. Raises nothing that a broker does: what
        it did not take is counted."""
        asked_for = self._choice.asked_for()
        began = self._world.monotonic()
        unheard = self._unheard
        messages = (
            each for each in reader.messages(end=span.end) if each.retained or each.log_time >= span.start
        )
        for offset, each in due(messages, span.start, self._speed):
            if not asked_for(each.topic):
                self.told.left[_topic_of(each.topic)] += 1
                continue
            message = again(each, self._names)
            self.told.asked += 1
            if not message.known and not self._choice.raw:
                self.told.unknown[each.topic] += 1
                self._tell(1)
                continue
            if (wait := began + offset - self._world.monotonic()) > 0:
                await self._flush()
                if (wait := began + offset - self._world.monotonic()) > 0:
                    await self._world.sleep(wait)
            kind = kind_of(message.topic) if message.known else ""
            if not self._grouping.add(kind, message.source, len(message.body), message):
                await self._flush()
                self._grouping.add(kind, message.source, len(message.body), message)
        await self._flush()
        await self._settle(unheard)
        self.told.seconds += self._world.monotonic() - began
        return self.told

    @property
    def _unheard(self) -> int:
        return self._bus.connection.unheard if isinstance(self._bus, NatsBus) else 0

    async def _flush(self) -> None:
        for kind, group in self._grouping.take():
            messages = [each for each in group if isinstance(each, Again)]
            if not self._down and not self._bus.link.up:
                await self._wait_up()
            if self._down:
                self._failed(self._down, len(messages))
            elif kind and len(messages) > 1 and isinstance(self._bus, NatsBus):
                await self._publish_together(messages)
            elif kind and self._bus.durable:
                for each in messages:
                    await self._publish(each)
            else:  # each goes out when its turn comes: they stay in order
                await asyncio.gather(*(self._publish(each) for each in messages))
            self._tell(len(messages))

    async def _publish_together(self, messages: Sequence[Again]) -> None:
        """All of them or, where the broker does not take them so, one by one: then it is known which it refuses."""
        try:
            await self._bus.publish_all([Outgoing(each.topic, each.body, HEADERS) for each in messages])
        except Unreachable as error:
            if not isinstance(error, (Forbidden, NobodyAnswers)) and "was not stored" not in str(error):
                self._failed(f"{error}: whether they are stored, nobody knows", len(messages))
                return
            for each in messages:  # where the link went down after the refusal, each waits for it
                if not self._bus.link.up:
                    await self._wait_up()
                await self._publish(each)
        except HeliographError:
            for each in messages:
                await self._publish(each)
        else:
            self.told.published += len(messages)

    async def _publish(self, message: Again) -> None:
        try:
            if message.known:
                await self._bus.publish(message.topic, message.body, headers=HEADERS, retain=message.retain)
            elif isinstance(self._bus, (NatsBus, MqttBus)):
                await self._bus.publish_raw(message.topic, message.body, HEADERS)
            else:
                raise Refused("unsupported", expected="nats:// or mqtt:// for topics that are not declared")
        except NobodyAnswers:
            self._failed(f"{_topic_of(message.topic)}: the broker keeps no stream of them; is the coordinator running?")
        except Forbidden:
            self._failed(f"{_topic_of(message.topic)}: this login may not publish there")
        except LinkDown as error:
            self._failed(f"{error}: whether it is stored, nobody knows")
        except Refused as error:
            self._failed(f"{_topic_of(message.topic)}: expected {error.expected}, got {error.got}")
        except Unreachable as error:
            self._failed(str(error))
        else:
            self.told.published += 1

    def _failed(self, why: str, count: int = 1) -> None:
        self.told.refused[why] += count

    async def _wait_up(self) -> None:
        try:
            await self._bus.link.wait_up(WAIT_FOR_LINK)
        except Unreachable:
            self._down = f"the link was down for {WAIT_FOR_LINK:g} s; not sent"

    async def _settle(self, unheard: int) -> None:
        """On NATS what no stream keeps is refused behind the publisher's back: the broker's word is waited for."""
        if not isinstance(self._bus, NatsBus):
            return
        try:
            await self._bus.connection.settle()
        except Exception as error:  # nats-py raises what it likes
            self._failed(f"the broker did not say that it has all: {type(error).__name__}", 0)
        if (more := self._unheard - unheard) > 0:
            self.told.published -= more
            self._failed(f"the broker did not take them: {self._bus.last_error[:200]}", more)


def _topic_of(address: str) -> str:
    from heliograph.bus.contract import registry

    topic, _ = registry.lookup(address)
    return topic.pattern if topic is not None else address
