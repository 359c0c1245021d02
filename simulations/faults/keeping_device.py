"""A device that keeps each event until the agent acknowledges it from disk: the producer's side of the acknowledgement.

Its memory dies with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass

from heliograph.bus.connect import connect
from heliograph.bus.contract.payloads import AnyData
from heliograph.bus.contract.topics import TELEMETRY
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.workers.outbox import Outbox

NAME = "meter"
EVERY = 0.02


@dataclass(frozen=True)
class Life:
    """One incarnation of a device, with its last sent and its last acknowledged event; events count from 1."""

    source: str
    sent: int
    acknowledged: int


def reading(source: str, number: int) -> dict[str, object]:
    """Return the content of an event, by which invented and changed events are recognized."""
    return {"number": number, "value": hashlib.sha256(f"{source}/{number}".encode()).hexdigest()[:16]}


class Device:
    """A device that publishes a numbered event on its node's broker, one ``every`` so many seconds."""

    def __init__(self, edge: str, url: str, world: World, every: float = EVERY) -> None:
        self._every = every
        self._edge = edge
        self._url = url
        self._world = world
        self._ended: list[Life] = []
        self._bus: Bus | None = None
        self._outbox: Outbox | None = None
        self._source = ""
        self._sending: asyncio.Task[None] | None = None

    @property
    def lives(self) -> list[Life]:
        """Incarnations, oldest first."""
        return self._ended + ([self._life()] if self._outbox is not None else [])

    async def start(self) -> None:
        """Start a new incarnation, which counts its events from 1."""
        incarnation = self._world.new_id()
        self._source = f"{self._edge}/{NAME}/{incarnation}"
        self._bus = connect(self._url, world=self._world, name=NAME)
        await self._bus.open()
        self._outbox = Outbox(Port(self._bus, self._world, self._source), NAME, incarnation, None)
        await self._outbox.open()
        self._sending = asyncio.create_task(self._send(self._outbox))

    async def kill(self) -> None:
        """End the incarnation at once; unacknowledged events are lost."""
        if self._outbox is None or self._bus is None or self._sending is None:
            return
        await cancel_and_wait(self._sending)
        await self._outbox.close()
        self._ended.append(self._life())
        self._outbox = None
        await self._bus.close()

    async def finish(self, timeout: float) -> None:
        """Stop sending, and wait until all events are acknowledged, at most ``timeout`` seconds."""
        if self._outbox is None or self._sending is None:
            return
        await cancel_and_wait(self._sending)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._outbox.flush()

    async def _send(self, outbox: Outbox) -> None:
        while True:
            event = AnyData.model_validate(reading(self._source, outbox.sent + 1))
            await outbox.send(TELEMETRY, event, edge=self._edge, device=NAME)
            await self._world.sleep(self._every)

    def _life(self) -> Life:
        assert self._outbox is not None
        return Life(self._source, self._outbox.sent, self._outbox.acknowledged)
