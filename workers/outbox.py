"""A producer's outbox: each event is kept until the agent says that it is on disk, and sent again after silence.

The outbox lives in memory and does not survive its process: a worker that is started again gets its assignment again
and makes the update anew, under a new incarnation.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import TypeVar

from pydantic import BaseModel

from heliograph.bus import topics
from heliograph.bus.errors import HeliographError
from heliograph.bus.event import encode
from heliograph.bus.keep import end
from heliograph.bus.port import Port
from heliograph.bus.topics import Topic

P = TypeVar("P", bound=BaseModel)

WINDOW = 512
"""Events on their way that the agent has not acknowledged; further ones wait."""
RESEND_AFTER = 1.0
RESEND_SOON = 0.25
"""Seconds of silence when the node's broker has just come back: what was sent before the agent was there is lost."""
SOON = 8
"""How often the shorter time is waited then."""


class Outbox:
    """Numbers and keeps this incarnation's events, and signs them where it has a key."""

    def __init__(self, port: Port, producer: str, incarnation: str, key: bytes | None) -> None:
        self._port = port
        self._producer = producer
        self._incarnation = incarnation
        self._key = key
        self._sequence = 0
        self._waiting: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._room = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._back = asyncio.Event()
        self._filled = asyncio.Event()

    async def open(self) -> None:
        self._port.bus.link.listen(self._on_link)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._resend())]

    async def close(self) -> None:
        self._port.bus.link.forget(self._on_link)
        await end(*self._tasks)

    @property
    def sent(self) -> int:
        """The number of the newest event that was given to it."""
        return self._sequence

    @property
    def acknowledged(self) -> int:
        """The highest number that the agent has said is on its disk."""
        return next(iter(self._waiting), self._sequence + 1) - 1

    async def send(self, topic: Topic[P], payload: P, **params: str) -> int:
        """Sends an event and keeps it; waits only while the window is full. Returns its number."""
        async with self._room:
            await self._room.wait_for(lambda: len(self._waiting) < WINDOW)
            self._sequence += 1
            number = self._sequence
        address = topic.at(**params)
        event = self._port.event(topic, payload, address, sequence=number)
        body = encode(event, key=self._key)
        self._waiting[number] = (address, body)
        self._filled.set()
        await self._transmit(address, body)
        return number

    async def flush(self) -> None:
        """Returns when everything sent is on the agent's disk."""
        async with self._room:
            await self._room.wait_for(lambda: not self._waiting)

    async def _transmit(self, address: str, body: bytes) -> None:
        try:
            await self._port.bus.publish(address, body, sure=False)
        except HeliographError:
            return  # kept; sent again when the node's broker is back

    async def _listen(self) -> None:
        async with self._port.subscribe(topics.ACK, lambda error: None, producer=self._producer) as acks:
            async for ack in acks:
                if ack.payload.incarnation != self._incarnation:
                    continue
                async with self._room:
                    while self._waiting and next(iter(self._waiting)) <= ack.payload.sequence:
                        self._waiting.popitem(last=False)
                    self._room.notify_all()

    def _on_link(self, up: bool) -> None:
        if up:
            self._back.set()
            self._filled.set()

    async def _resend(self) -> None:
        soon = 0
        while True:
            if not self._waiting and not soon:
                await self._filled.wait()
            self._filled.clear()
            oldest = next(iter(self._waiting), None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESEND_SOON if soon else RESEND_AFTER):
                    await self._back.wait()
            soon = max(0, soon - 1)
            if self._back.is_set():
                self._back.clear()
                soon = SOON
            elif oldest is not None and oldest in self._waiting:  # a whole period without progress
                for address, body in list(self._waiting.values()):
                    await self._transmit(address, body)
