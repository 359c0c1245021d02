"""Replaying: publish a trace's messages again, in their order and with their intervals."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from heliograph.bus.mqtt.bus import MqttBus
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.replayed_message import HEADERS, Names, ReplayedMessage, replayed_message
from heliograph.bus.traces.schedule import Choice, Grouping, Span, due, kind_of
from heliograph.bus.transport import Bus, Outgoing
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Forbidden, HeliographError, LinkDown, NobodyAnswers, Refused, Unreachable
from heliograph.core.world import World

WAIT_FOR_LINK = 10.0
"""Seconds without the broker after which the remaining messages are given up."""
TRIES = 5
"""Attempts for a message whose answer was lost with the link, on an address that the broker has refused before."""


@dataclass
class ReplayOutcome:
    """The outcome of a replay.

    Attributes:
        selected: number of messages selected for the replay.
        published: number of messages published.
        seconds: time taken.
        refused: number of messages that were not published, by reason.
        skipped: number of messages, by topic, that are not replayed unless ``--topics`` names them.
        unknown: number of messages, by address, on undeclared topics, if ``raw`` was not set.
        unsigned: number of messages that were signed in the trace and are published without a signature.
    """

    selected: int = 0
    published: int = 0
    seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    unsigned: int = 0

    @property
    def complete(self) -> bool:
        return self.published == self.selected


class Replayer:
    """A publisher of a trace's messages on a bus; each is marked as replayed.

    Args:
        bus: an open bus.
        choice: selection of messages.
        names: new names.
        signer: signs anew what was signed in the trace, by the key that the target's agents trust.
        speed: recorded seconds replayed in each second; 0 publishes as fast as the broker accepts.
        progress: called with the number of messages handled since the last call.
    """

    def __init__(
        self,
        bus: Bus,
        world: World,
        *,
        choice: Choice | None = None,
        names: Names | None = None,
        signer: Ed25519Signer | None = None,
        speed: float = 1.0,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.outcome = ReplayOutcome()
        self._bus = bus
        self._world = world
        self._choice = choice or Choice()
        self._names = names or Names({})
        self._signer = signer
        self._speed = speed
        self._progress = progress
        self._grouping = Grouping()
        self._down = ""
        self._forbidden: set[str] = set()
        """Addresses that the broker has refused to this login: nothing published there is stored."""

    async def run(self, reader: TraceReader, span: Span) -> ReplayOutcome:
        """Replay a span of the trace once; further calls add to the same outcome.

        Messages that the broker does not accept are counted and raise no error.
        """
        selects = self._choice.selector()
        began = self._world.monotonic()
        unheard = self._unheard
        messages = (
            each for each in reader.messages(end=span.end) if each.retained or each.log_time >= span.start
        )
        for offset, each in due(messages, span.start, self._speed):
            if not selects(each.topic):
                self.outcome.skipped[_topic_of(each.topic)] += 1
                continue
            message = replayed_message(each, self._names, self._signer)
            self.outcome.unsigned += message.lost_signature
            self.outcome.selected += 1
            if not message.known and not self._choice.raw:
                self.outcome.unknown[each.topic] += 1
                self._progress(1)
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
        self.outcome.seconds += self._world.monotonic() - began
        return self.outcome

    @property
    def _unheard(self) -> int:
        return self._bus.connection.unreported_refusals if isinstance(self._bus, NatsBus) else 0

    async def _flush(self) -> None:
        for kind, group in self._grouping.drain():
            messages = [each for each in group if isinstance(each, ReplayedMessage)]
            if not self._down and not self._bus.link.up:
                await self._wait_up()
            if self._down:
                self._failed(self._down, len(messages))
            elif kind and len(messages) > 1 and isinstance(self._bus, NatsBus):
                await self._publish_together(messages)
            elif kind and self._bus.durable:
                for each in messages:
                    await self._publish(each)
            else:  # the tasks send in turn, so the messages stay in order
                await asyncio.gather(*(self._publish(each) for each in messages))
            self._progress(len(messages))

    async def _publish_together(self, messages: Sequence[ReplayedMessage]) -> None:
        """Publish messages as one batch; if the broker refuses the batch, one by one, to learn which it refuses."""
        try:
            await self._bus.publish_all([Outgoing(each.topic, each.body, HEADERS) for each in messages])
        except Unreachable as error:
            if not isinstance(error, (Forbidden, NobodyAnswers)) and "was not stored" not in str(error):
                self._failed(f"{error}: they may or may not be stored", len(messages))
                return
            if isinstance(error, Forbidden):
                self._forbidden.add(messages[-1].topic)  # a batch is refused by its last message
            for each in messages:  # each waits for the link if it went down after the refusal
                if not self._bus.link.up:
                    await self._wait_up()
                await self._publish(each)
        except HeliographError:
            for each in messages:
                await self._publish(each)
        else:
            self.outcome.published += len(messages)

    async def _publish(self, message: ReplayedMessage, tries: int = TRIES) -> None:
        try:
            await self._send(message)
        except NobodyAnswers:
            self._failed(f"{_topic_of(message.topic)}: the broker has no stream for them; is the coordinator running?")
        except Forbidden:
            self._forbidden.add(message.topic)
            self._failed(f"{_topic_of(message.topic)}: this login may not publish there")
        except LinkDown as error:
            if message.topic not in self._forbidden or tries <= 1:
                self._failed(f"{error}: it may or may not be stored")
                return
            await self._wait_up()
            if self._down:
                self._failed(self._down)
            else:
                await self._publish(message, tries - 1)  # cannot be stored twice: the broker refuses it
        except Refused as error:
            self._failed(f"{_topic_of(message.topic)}: expected {error.expected}, got {error.got}")
        except Unreachable as error:
            self._failed(str(error))
        else:
            self.outcome.published += 1

    async def _send(self, message: ReplayedMessage) -> None:
        if message.known:
            await self._bus.publish(message.topic, message.body, headers=HEADERS, retain=message.retain)
        elif isinstance(self._bus, (NatsBus, MqttBus)):
            await self._bus.publish_raw(message.topic, message.body, HEADERS)
        else:
            raise Refused("unsupported", expected="nats:// or mqtt:// for undeclared topics")

    def _failed(self, why: str, count: int = 1) -> None:
        self.outcome.refused[why] += count

    async def _wait_up(self) -> None:
        try:
            await self._bus.link.wait_up(WAIT_FOR_LINK)
        except Unreachable:
            self._down = f"the link was down for {WAIT_FOR_LINK:g} s; not sent"

    async def _settle(self, unheard: int) -> None:
        """Wait until the broker has processed all messages: NATS refuses messages without a stream asynchronously."""
        if not isinstance(self._bus, NatsBus):
            return
        try:
            await self._bus.connection.settle()
        except Exception as error:  # nats-py raises errors of many types
            self._failed(f"the broker did not confirm all messages: {type(error).__name__}", 0)
        if (more := self._unheard - unheard) > 0:
            self.outcome.published -= more
            self._failed(f"the broker refused them: {self._bus.last_error[:200]}", more)


def _topic_of(address: str) -> str:
    from heliograph.bus.contract import registry

    topic, _ = registry.lookup(address)
    return topic.pattern if topic is not None else address
