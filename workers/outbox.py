"""A producer's outbox: keep each event until the agent acknowledges that it is on disk, and resend after silence.

The outbox lives in memory and does not survive its process: a restarted worker gets its assignment again and computes
the update anew, under a new incarnation.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TypeVar

from pydantic import BaseModel

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.payloads import Ack
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.contract.topics import Topic
from heliograph.bus.link_pace import FIRST_WINDOW
from heliograph.bus.port import Port, Received
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait, keep_running

P = TypeVar("P", bound=BaseModel)

WINDOW, WINDOW_BYTES = 512, 32 << 20
"""Events without an acknowledgement, and their bytes, at which ``send`` waits before further ones. On a link that was
measured to be slow the bytes are those of its window."""
RESEND_AFTER = 1.0
"""Seconds without an acknowledgement after which all waiting events are sent again; more where the link is slow."""
RESEND_SOON = 0.25
"""The same just after the node's broker came back: events sent before the agent subscribed are lost."""
RESEND_SOON_FOR = 2.0
"""Seconds after the broker's return in which ``RESEND_SOON`` applies."""


class Outbox:
    """Numbers and keeps the events of one incarnation.

    Args:
        key: secret of a worker's launch: it signs the events, and the agent's acknowledgements must be signed with it.
            A device has none.
    """

    def __init__(self, port: Port, producer: str, incarnation: str, key: bytes | None) -> None:
        self._port = port
        self._producer = producer
        self._incarnation = incarnation
        self._key = key
        self._sequence = 0
        self._waiting: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._bytes = 0
        self._acknowledged = asyncio.Event()
        self._mark: tuple[int, int, float] | None = None
        """An event that was sent, the bytes that were under way then, and when: its acknowledgement tells the link's
        pace. None where the link went down since: an outage is no pace."""
        self._under_way = 0
        """Bytes of the waiting events that were sent since the link came up."""
        self._soon_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._following: asyncio.Task[None] | None = None
        self._resending: asyncio.Task[None] | None = None
        self._failures = Failures(lambda line: port.world.say(f"an acknowledgement was refused: {line}"))

    async def open(self) -> None:
        """Start to follow the agent's acknowledgements."""
        self._port.bus.link.listen(self._on_link)
        world = self._port.world
        self._following = asyncio.create_task(keep_running(self._follow_acks, world, world.say))

    async def close(self) -> None:
        self._port.bus.link.forget(self._on_link)
        self._stop_timer()
        await cancel_and_wait(*(task for task in (self._following, self._resending) if task is not None))

    @property
    def sent(self) -> int:
        """The number of the newest event."""
        return self._sequence

    @property
    def acknowledged(self) -> int:
        """The highest number that the agent has acknowledged."""
        return next(iter(self._waiting), self._sequence + 1) - 1

    async def send(self, topic: Topic[P], payload: P, **params: str) -> int:
        """Send an event, keep it, and return its number; wait only while the window is full.

        Raise Refused where the event is too large for its topic: the outbox would resend it for ever, and all later
        events would wait behind it.
        """
        while len(self._waiting) >= WINDOW or self._bytes >= self._most:
            await self._acknowledgement()
        number = self._sequence + 1
        address = topic.at(**params)
        event = self._port.event(topic, payload, address, sequence=number)
        body = encode(event, key=self._key)
        check_size(topic, address, body)
        self._sequence = number
        self._waiting[number] = (address, body)
        self._bytes += len(body)
        self._under_way += len(body)
        if self._mark is None and self._port.bus.link.up:
            self._mark = number, self._under_way, self._port.world.monotonic()
        if self._timer is None:
            self._start_timer()
        await self._transmit(address, body)
        return number

    @property
    def _most(self) -> int:
        """Bytes that may wait for an acknowledgement."""
        stream = self._port.bus.link.pace.stream
        return WINDOW_BYTES if stream is None else min(WINDOW_BYTES, stream)

    async def flush(self) -> None:
        """Return when every sent event is on the agent's disk."""
        while self._waiting:
            await self._acknowledgement()

    async def _acknowledgement(self) -> None:
        self._acknowledged.clear()
        await self._acknowledged.wait()

    async def _transmit(self, address: str, body: bytes) -> None:
        try:
            await self._port.bus.publish(address, body, sure=False)
        except HeliographError:
            return  # the event stays, and is sent again when the node's broker is back

    async def _follow_acks(self) -> None:
        producer = {"producer": self._producer} if self._key is None else {"worker": self._producer}
        topic = topics.ACK if self._key is None else topics.WORKER_ACK
        async with self._port.subscribe(topic, self._refused, **producer) as acks:
            async for ack in acks:
                if ack.payload.incarnation != self._incarnation:
                    continue
                try:
                    self._check(ack)
                except Refused as error:
                    self._refused(error)
                    continue
                while self._waiting and next(iter(self._waiting)) <= ack.payload.sequence:
                    _, (_, body) = self._waiting.popitem(last=False)
                    self._bytes -= len(body)
                    self._under_way = max(0, self._under_way - len(body))
                self._measure(ack.payload.sequence)
                self._acknowledged.set()
                if not self._waiting:
                    self._stop_timer()

    def _measure(self, through: int) -> None:
        if self._mark is not None and self._mark[0] <= through:
            _, size, began = self._mark
            self._mark = None
            if size >= FIRST_WINDOW:  # a few small events say how long the agent was away, not how fast the link is
                self._port.bus.link.pace.acknowledged(size, self._port.world.monotonic() - began)

    def _check(self, ack: Received[Ack]) -> None:
        """Raise Refused for an acknowledgement that the agent did not send: these events would be lost."""
        if self._key is not None:
            ack.check_signed(self._key, f"the agent, for {self._producer}'s launch")
        if ack.payload.sequence > self._sequence:
            raise Refused("invalid", topic=ack.message.topic, field="sequence", expected="the number of a sent event",
                          got=ack.payload.sequence)  # fmt: skip

    def _refused(self, error: Refused) -> None:
        self._failures.add(error.topic, error)

    def _on_link(self, up: bool) -> None:
        self._mark, self._under_way = None, 0
        if up:
            self._soon_until = self._port.world.monotonic() + RESEND_SOON_FOR
            self._start_timer()

    def _start_timer(self) -> None:
        """Check after a period whether the oldest event has been acknowledged; without events run no timer."""
        self._stop_timer()
        if self._waiting:
            period = RESEND_SOON if self._port.world.monotonic() < self._soon_until else RESEND_AFTER
            pace = self._port.bus.link.pace
            period += pace.allowance(self._under_way if pace.rate is not None else 0)
            oldest = next(iter(self._waiting))
            self._timer = asyncio.get_running_loop().call_later(period, self._resend_if_silent, oldest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _resend_if_silent(self, oldest: int) -> None:
        if oldest in self._waiting and (self._resending is None or self._resending.done()):
            self._under_way = self._bytes
            self._resending = asyncio.create_task(self._resend())  # a whole period without progress
        self._start_timer()

    async def _resend(self) -> None:
        for address, body in list(self._waiting.values()):
            await self._transmit(address, body)
