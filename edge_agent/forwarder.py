"""Forward the journal to the cloud as soon as the link is up: each lane in order, in batches that are stored whole or
not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from heliograph.bus.contract import registry
from heliograph.bus.contract.lanes import headers_of, lane_and_number, lane_name
from heliograph.bus.contract.topics import LANES
from heliograph.bus.transport import Bus, Outgoing
from heliograph.core.errors import Conflict, HeliographError, Refused, StoreFull
from heliograph.core.failures import sentence_of
from heliograph.core.world import World
from heliograph.edge_agent.journal import Journal, KeptEvent
from heliograph.edge_agent.journal_file import opening_of

WINDOW = 1000
"""Events of one batch, at most; the broker accepts no more."""
WIRE = 384
"""Bytes that an event takes on the link besides its body, about: address, lane and number, batch."""
RETRY = 0.2
"""Seconds before a failed attempt is repeated."""
FORGET_EVERY = 0.25
"""Seconds between two deletions of stored events: each costs a sync. The cloud recognises a repeated event by its
number."""


class Forwarder:
    """Publishes the journal's events, lane and number in the headers, and deletes events that the cloud has stored.

    Args:
        needs_upload: whether an event names a blob that must be in the cloud before it.
        upload: called with such an event before it is published.
        refused: called with an event that the cloud will never take; the journal drops it.
        stays: whether events of an address stay on this node.
    """

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        edge: str,
        world: World,
        needs_upload: Callable[[KeptEvent], bool],
        upload: Callable[[KeptEvent], Awaitable[None]],
        refused: Callable[[KeptEvent, Refused], None],
        warn: Callable[[str], None],
        stays: Callable[[str], bool] = lambda topic: False,
    ) -> None:
        self._journal = journal
        self._stays = stays
        self._bus = bus
        self._edge = edge
        self._world = world
        self._needs_upload = needs_upload
        self._upload = upload
        self._refused = refused
        self._warn = warn
        self._no_room: dict[int, str] = {}
        """By lane, why the cloud has no room for its next event."""
        self._done: dict[int, int] = {}
        self._reconnected: set[int] = set()
        """Lanes that have sent nothing since the link came back: the machine may have gone back to a snapshot."""
        self._checking = asyncio.Lock()
        self._checked = journal.opening == 1  # of a new journal the cloud has nothing
        self._to_forget = asyncio.Event()

    @property
    def no_room(self) -> str:
        """Return why the cloud has no room for this edge's events or uploads; empty while it has."""
        return next(filter(None, self._no_room.values()), "")

    async def run(self) -> None:
        """Forward until cancelled."""
        self._bus.link.listen(self._on_link)
        try:
            async with asyncio.TaskGroup() as group:
                for lane in LANES:
                    group.create_task(self._forward(lane))
                group.create_task(self._forget())
        finally:
            self._bus.link.forget(self._on_link)

    def _on_link(self, up: bool) -> None:
        self._reconnected.update(LANES)

    async def _forget(self) -> None:
        warned = ""
        while True:
            await self._to_forget.wait()
            self._to_forget.clear()
            done, self._done = self._done, {}
            for lane, through in sorted(done.items()):
                try:
                    await self._journal.forget(lane, through)
                    warned = ""
                except HeliographError as error:  # a full disk, say; the loop tries again
                    if str(error) != warned:
                        warned = str(error)
                        self._warn(warned)
                    self._done.setdefault(lane, through)
                    self._to_forget.set()
            await self._world.sleep(FORGET_EVERY)

    async def _forward(self, lane: int) -> None:
        done, unsure, warned = 0, True, ""
        while True:
            await self._bus.link.wait_up()
            try:
                await self._check_journal()
                unsure = unsure or lane in self._reconnected
                self._reconnected.discard(lane)
                through, last = await self._forward_window(lane, done, unsure)
            except Conflict:
                unsure = True  # an earlier attempt stored some of the batch
            except (HeliographError, OSError) as error:
                unsure = True  # the batch may have been stored: ask the cloud first
                self._no_room[lane] = str(error) if isinstance(error, StoreFull) else ""
                if str(error) != warned and self._bus.link.up:
                    warned = str(error)
                    self._warn(f"forwarding: {warned}; trying again")
                await self._pause()
            else:
                if through != done:
                    unsure, warned = False, ""
                    self._no_room.pop(lane, None)
                    done = self._done[lane] = through
                    self._to_forget.set()
                if last:
                    await self._journal.wait_for_events(lane)

    async def _check_journal(self) -> None:
        """Leave the numbers that the cloud has already, before the first event is sent: see ``restored_journal``."""
        async with self._checking:
            if not self._checked:
                from heliograph.edge_agent.restored_journal import leave_numbers, newest_opening

                newest = await newest_opening(self._bus, self._edge, self._journal)
                if newest >= self._journal.opening:
                    self._warn(await leave_numbers(self._journal, newest, dict.fromkeys(LANES, 0)))
                self._checked = True

    async def _forward_window(self, lane: int, done: int, unsure: bool) -> tuple[int, bool]:
        """Send the next events behind number ``done``. Return the number up to which the cloud has the lane, and
        whether the lane ends there."""
        window = self._journal.read(lane, done, WINDOW, self._bus.link.pace.window, WIRE)
        goes = [each for each in window.events if not self._stays(each.topic)]
        batches, through = _batches(goes, window.through, self._needs_upload)
        for batch in batches:
            if not unsure:
                await self._send(lane, batch)
                continue
            left = await self._not_yet_stored(lane, batch, done)
            try:
                await self._send(lane, left)
            except Conflict:  # an address without the edge does not tell which are stored: the stream drops these
                for kept in left:
                    await self._send(lane, [kept])
        self._journal.count_stored(sum(each.n <= through for each in window.events))
        return through, window.last and through == window.through

    async def _pause(self) -> None:
        """Wait before the next attempt; without a link its return starts the attempt."""
        if self._bus.link.up:
            await self._world.sleep(RETRY)

    async def _not_yet_stored(self, lane: int, batch: list[KeptEvent], done: int) -> list[KeptEvent]:
        """Return the events of a batch that lie behind the highest number of this lane in their stream. Raise Conflict
        where that is a number of this opening that this process has never sent: its machine went back to a snapshot.

        Only this agent publishes on an address with its edge's name, and in order: the last message there decides.
        """
        mine = lane_name(self._edge, self._journal.uuid, lane)
        own = sorted({each.topic for each in batch if "edge" in dict(registry.lookup(each.topic)[1])})
        highest = 0
        for message in await asyncio.gather(*(self._bus.last(topic) for topic in own)):
            found = lane_and_number(message.headers) if message is not None else None
            if found is not None and found[0] == mine:
                highest = max(highest, found[1])
        if (newest := opening_of(highest)) >= self._journal.opening and highest > self._journal.sent[lane]:
            from heliograph.edge_agent.restored_journal import leave_numbers

            self._warn(await leave_numbers(self._journal, newest, {lane: done}))
            raise Conflict(f"{mine}: its events have other numbers now")
        return [each for each in batch if each.n > highest]

    async def _send(self, lane: int, batch: list[KeptEvent]) -> None:
        for kept in batch:
            if self._needs_upload(kept):
                try:
                    await self._upload(kept)
                except Refused as error:
                    self._refused(kept, error)
                    batch = [each for each in batch if each is not kept]
                except (HeliographError, OSError):
                    raise
                except Exception as error:
                    self._refused(kept, Refused("defect", topic=kept.topic, expected="an event that this agent can "
                                                "upload", got=sentence_of(error)))  # fmt: skip
                    batch = [each for each in batch if each is not kept]
        if not batch:
            return
        self._journal.sent[lane] = max(self._journal.sent[lane], batch[-1].n)
        try:
            await self._bus.publish_all([self._outgoing(lane, kept) for kept in batch])
        except Refused as error:
            if len(batch) > 1:  # find the refused event by sending each alone
                for kept in batch:
                    await self._send(lane, [kept])
            else:
                self._refused(batch[0], error)

    def _outgoing(self, lane: int, kept: KeptEvent) -> Outgoing:
        headers = headers_of(lane_name(self._edge, self._journal.uuid, lane), kept.n)
        if offset := self._journal.clock_offset(lane, kept.n):
            from heliograph.bus.contract.clock_offset import clock_offset_header

            headers |= clock_offset_header(offset)
        return Outgoing(kept.topic, kept.body, headers)


def _batches(
    events: list[KeptEvent], through: int, needs_upload: Callable[[KeptEvent], bool]
) -> tuple[list[list[KeptEvent]], int]:
    """Group a window's events by stream. Return the batches, and the number up to which they reach.

    An event that names a blob ends the window before it: no later event of the lane overtakes an upload.
    """
    for place, kept in enumerate(events):
        if place and needs_upload(kept):
            events, through = events[:place], events[place - 1].n
            break
    streams: dict[str, list[KeptEvent]] = {}
    for kept in events:
        topic, _ = registry.lookup(kept.topic)  # None: its feature is not installed any more
        streams.setdefault(topic.stream.name if topic is not None and topic.stream is not None else "", []).append(kept)
    return list(streams.values()), through
