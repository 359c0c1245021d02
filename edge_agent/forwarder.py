"""From the journal to the cloud: each lane in order, windowed, at once when the link is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from heliograph.bus.errors import HeliographError, Refused
from heliograph.bus.transport import Bus
from heliograph.bus.world import World
from heliograph.edge_agent.journal import Journal, Kept

LANES = (0, 1)
"""Task results, and bulk: results pass bulk samples."""
WINDOW = 256
WINDOW_BYTES = 4 * 1024 * 1024
RETRY = 0.2
FORGET_EVERY = 0.25
"""Seconds between two clearings of what the cloud has: each costs a sync, and what is sent again meanwhile the cloud
knows by its number."""

LANE_HEADER = "Heliograph-Lane"
NUMBER_HEADER = "Heliograph-Number"


class Forwarder:
    """Publishes what the journal holds, with lane and number in the headers, and forgets what the cloud has stored.

    Args:
        uploads: whether an event names a blob that must be in the cloud before it.
        before: called with each event before it is published; uploads that blob.
        refused: called with what the cloud will never take; it is dropped from the journal, and said aloud.
    """

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        edge: str,
        world: World,
        uploads: Callable[[Kept], bool],
        before: Callable[[Kept], Awaitable[None]],
        refused: Callable[[Kept, Refused], None],
    ) -> None:
        self._journal = journal
        self._bus = bus
        self._edge = edge
        self._world = world
        self._uploads = uploads
        self._before = before
        self._refused = refused
        self._done: dict[int, int] = {}
        self._to_forget = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in LANES:
                group.create_task(self._forward(lane))
            group.create_task(self._forget())

    async def _forget(self) -> None:
        while True:
            await self._to_forget.wait()
            self._to_forget.clear()
            done, self._done = self._done, {}
            for lane, up_to in sorted(done.items()):
                await self._journal.forget(lane, up_to)
            await self._world.sleep(FORGET_EVERY)

    async def _forward(self, lane: int) -> None:
        done = 0
        while True:
            await self._bus.link.wait_up()
            batch = self._journal.read(lane, done, WINDOW, WINDOW_BYTES)
            if not batch:
                await self._journal.wait_grown(lane)
                continue
            for place, kept in enumerate(batch):  # nothing in the lane overtakes an upload
                if place and self._uploads(kept):
                    batch = batch[:place]
                    break
            results = await asyncio.gather(*(self._send(lane, kept) for kept in batch), return_exceptions=True)
            for kept, result in zip(batch, results, strict=True):
                if isinstance(result, Refused):
                    self._refused(kept, result)
                elif isinstance(result, BaseException):
                    break  # this one and what follows it in the lane is sent again; the cloud knows repeats by number
                done = kept.n
            if done >= batch[0].n:
                self._done[lane] = done
                self._journal.stored(done - batch[0].n + 1)
                self._to_forget.set()
            if done < batch[-1].n:
                await self._world.sleep(RETRY)

    async def _send(self, lane: int, kept: Kept) -> None:
        headers = {
            LANE_HEADER: f"{self._edge}.{self._journal.uuid}.{lane}",
            NUMBER_HEADER: str(kept.n),
            "Nats-Msg-Id": f"{self._journal.uuid}.{lane}.{kept.n}",
        }
        try:
            await self._before(kept)
            await self._bus.publish(kept.topic, kept.body, headers=headers)
        except (HeliographError, OSError, TimeoutError) as error:
            if isinstance(error, Refused):
                raise
            raise HeliographError(str(error)) from error


def lane_of(headers: dict[str, str]) -> tuple[str, int] | None:
    """Lane and number of a forwarded event: a consumer keeps the highest number per lane to pass over repeats."""
    lane, number = headers.get(LANE_HEADER), headers.get(NUMBER_HEADER)
    return (lane, int(number)) if lane and number and number.isdigit() else None
