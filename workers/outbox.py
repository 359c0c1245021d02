"""A producer's outbox: each event is kept until the agent says that it is on disk, and sent again after silence.

The outbox lives in memory and does not survive its process: a worker that is started again gets its assignment again
and makes the update anew, under a new incarnation.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TypeVar

from pydantic import BaseModel

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.contract.topics import Topic
from heliograph.bus.port import Port
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import cancel_and_wait, keep_running

P = TypeVar("P", bound=BaseModel)

WINDOW = 512
"""Most events that the agent has not acknowledged; further ones wait."""
RESEND_AFTER = 1.0
RESEND_SOON = 0.25
"""Seconds of silence just after the node's broker came back: events sent before the agent subscribed are lost."""
SOON_FOR = 2.0
"""Seconds for which the shorter period applies after the broker came back."""


class Outbox:
    """Numbers and keeps this incarnation's events, and signs them where it has a key."""

    def __init__(self, port: Port, producer: str, incarnation: str, key: bytes | None) -> None:
        self._port = port
        self._producer = producer
        self._incarnation = incarnation
        self._key = key
        self._sequence = 0
        self._waiting: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._less = asyncio.Event()
        self._soon_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None
        self._resending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._port.bus.link.listen(self._on_link)
        world = self._port.world
        self._listening = asyncio.create_task(keep_running(self._listen, world, world.say))

    async def close(self) -> None:
        self._port.bus.link.forget(self._on_link)
        self._stop_timer()
        await cancel_and_wait(*(task for task in (self._listening, self._resending) if task is not None))

    @property
    def sent(self) -> int:
        """The number of the newest event."""
        return self._sequence

    @property
    def acknowledged(self) -> int:
        """The highest number that the agent has acknowledged."""
        return next(iter(self._waiting), self._sequence + 1) - 1

    async def send(self, topic: Topic[P], payload: P, **params: str) -> int:
        """Send an event and keep it; wait only while the window is full. Returns its number.

        Raises Refused where the event is too large for its topic: the outbox would send it again for ever, and all
        later events would wait behind it.
        """
        while len(self._waiting) >= WINDOW:
            await self._acknowledgement()
        number = self._sequence + 1
        address = topic.at(**params)
        event = self._port.event(topic, payload, address, sequence=number)
        body = encode(event, key=self._key)
        check_size(topic, address, body)
        self._sequence = number
        self._waiting[number] = (address, body)
        if self._timer is None:
            self._start_timer()
        await self._transmit(address, body)
        return number

    async def flush(self) -> None:
        """Return when everything sent is on the agent's disk."""
        while self._waiting:
            await self._acknowledgement()

    async def _acknowledgement(self) -> None:
        self._less.clear()
        await self._less.wait()

    async def _transmit(self, address: str, body: bytes) -> None:
        try:
            await self._port.bus.publish(address, body, sure=False)
        except HeliographError:
            return  # the event is kept, and sent again when the node's broker is back

    async def _listen(self) -> None:
        async with self._port.subscribe(topics.ACK, lambda error: None, producer=self._producer) as acks:
            async for ack in acks:
                if ack.payload.incarnation != self._incarnation:
                    continue
                while self._waiting and next(iter(self._waiting)) <= ack.payload.sequence:
                    self._waiting.popitem(last=False)
                self._less.set()
                if not self._waiting:
                    self._stop_timer()

    def _on_link(self, up: bool) -> None:
        if up:
            self._soon_until = self._port.world.monotonic() + SOON_FOR
            self._start_timer()

    def _start_timer(self) -> None:
        """Check after a period whether the oldest event has been acknowledged; without events there is no timer."""
        self._stop_timer()
        if self._waiting:
            period = RESEND_SOON if self._port.world.monotonic() < self._soon_until else RESEND_AFTER
            oldest = next(iter(self._waiting))
            self._timer = asyncio.get_running_loop().call_later(period, self._silent, oldest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _silent(self, oldest: int) -> None:
        if oldest in self._waiting and (self._resending is None or self._resending.done()):
            self._resending = asyncio.create_task(self._resend())  # a whole period without progress
        self._start_timer()

    async def _resend(self) -> None:
        for address, body in list(self._waiting.values()):
            await self._transmit(address, body)
