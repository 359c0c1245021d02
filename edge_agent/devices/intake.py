"""What becomes of each message of a device: an event in the journal, a repeated one that is passed over, or a refusal.

A message at QoS 1 is acknowledged to the broker once that has happened: an event once it is on the disk.
Acknowledgements go in the order of the messages (MQTT 5, 4.6). What the journal cannot keep now is kept in memory and
tried again, and nothing more is read from the broker meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from heliograph.core.errors import Refused
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.edge_agent.devices.message import Acknowledging, DeviceMessage
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import Delivery, NewEvent

RETRY = 1.0
"""Seconds until the journal is asked again to keep what it could not."""
_KNOWN = 1 << 15
"""Newest messages among which one is looked for that the broker sends again: more than are ever under way, and fewer
than a session has ids, so that none is taken for an older one with the same id."""


class Reading(Protocol):
    """What makes an event of a message."""

    def event_of(self, message: DeviceMessage) -> NewEvent | None:
        """Return what is journalled; None where there is nothing to keep. Raise Refused where it never will be."""
        ...


@dataclass(slots=True, eq=False)
class _Taken:
    """A message that is not acknowledged to the broker."""

    id: int
    digest: int = 0
    entry: NewEvent | None = None
    is_done: bool = False


class DeviceIntake:
    """Takes the messages of one connection.

    Args:
        refused: called with (topic, error) for each message that is refused.

    Attributes:
        refusals: messages refused since the agent's start.
        redelivered: messages that the broker has sent again since then, and that the journal had.
        retained: messages since then that the broker had kept from before the subscription, and that were passed over.
    """

    def __init__(
        self, reading: Reading, journal: Journal, world: World, background: Background,
        refused: Callable[[str, Exception], None],
    ) -> None:  # fmt: skip
        self.refusals = 0
        self.redelivered = 0
        self.retained = 0
        self.source: Acknowledging | None = None
        """The connection."""
        self._reading = reading
        self._journal = journal
        self._world = world
        self._background = background
        self._refused = refused
        self._window: deque[_Taken] = deque()
        """What came on this connection at QoS 1, in order."""
        self._under_way: dict[int, _Taken] = {}
        """What waits for its commit, by the id of its message."""
        self._groups: dict[asyncio.Future[None], list[_Taken]] = {}
        self._not_kept: list[_Taken] = []
        self._serial: int | None = None
        self._paused = False

    def begin(self, is_known: bool) -> None:
        """Begin a connection; see ``Taking``."""
        self._window.clear()
        if not is_known:
            self._under_way.clear()
            self._background.spawn(self._journal.forget_deliveries())

    def take(self, message: DeviceMessage) -> None:
        """Take a message. Raise nothing: what is wrong with one costs that one alone."""
        taken = _Taken(message.id, _digest(message) if message.id else 0)
        try:
            if message.again and (known := self._sent_before(taken)) is not None:
                self.redelivered += 1
                taken = known
            else:
                self._take(message, taken)
        except Exception as error:  # the message's own, whatever it is: the next one is taken all the same
            taken.is_done = True
            self._refuse(message.topic, error)
        if taken.id:
            self._window.append(taken)
            if taken.is_done:
                self.settle()
        if not self._journal.has_room or self._not_kept:
            self._pause()

    def settle(self) -> None:
        """Acknowledge what is done, up to the first message that is not."""
        done = []
        for each in self._window:
            if not each.is_done:
                break
            done.append(each.id)
        if done and self.source is not None and self.source.acknowledge(done):
            for _ in done:
                self._window.popleft()

    def keep(self, entry: NewEvent) -> None:
        """Journal an event that awaits no acknowledgement of the broker's."""
        self._append(_Taken(0, entry=entry))

    def _take(self, message: DeviceMessage, taken: _Taken) -> None:
        if message.retained:
            self.retained += 1
            raise Refused("retained", topic=message.topic, expected="a message of now",
                          got="one that the broker has kept", hint="Publish without the retain flag.")  # fmt: skip
        entry = self._reading.event_of(message)
        if entry is None:
            taken.is_done = True
            return
        if taken.id:
            entry = _delivered(entry, Delivery(taken.id, taken.digest, self._next_serial()))
            self._under_way[taken.id] = taken
        taken.entry = entry
        self._append(taken)

    def _refuse(self, topic: str, error: Exception) -> None:
        if not (isinstance(error, Refused) and error.code == "retained"):
            self.refusals += 1
        self._refused(topic, error)

    def _sent_before(self, taken: _Taken) -> _Taken | None:
        """Return what is known of a message that was sent before; None where it was not taken then."""
        known = self._under_way.get(taken.id)
        if known is not None and known.digest == taken.digest:
            return known
        kept = self._journal.delivery(taken.id)
        if kept is None or kept.digest != taken.digest or self._last_serial() - kept.serial >= _KNOWN:
            return None
        taken.is_done = True
        return taken

    def _last_serial(self) -> int:
        if self._serial is None:
            self._serial = self._journal.last_serial()
        return self._serial

    def _next_serial(self) -> int:
        self._serial = self._last_serial() + 1
        return self._serial

    def _append(self, taken: _Taken) -> None:
        assert taken.entry is not None
        if self._not_kept:  # the order stays
            self._not_kept.append(taken)
            return
        kept = self._journal.append(taken.entry)
        group = self._groups.get(kept)
        if group is None:
            group = self._groups[kept] = []
            kept.add_done_callback(self._committed)
        group.append(taken)

    def _committed(self, kept: asyncio.Future[None]) -> None:
        group = self._groups.pop(kept)
        if kept.cancelled():
            return
        if error := kept.exception():
            if not self._not_kept:
                self._background.spawn(self._try_again())
                self._refused("", Refused("not-kept", expected="room in the journal", got=str(error),
                                          hint="The agent tries again."))  # fmt: skip
            self._not_kept += group
            self._pause()
            return
        for each in group:
            each.is_done = True
            if self._under_way.get(each.id) is each:
                del self._under_way[each.id]
        self.settle()

    async def _try_again(self) -> None:
        await self._world.sleep(RETRY)
        waiting, self._not_kept = self._not_kept, []
        for each in waiting:
            self._append(each)

    def _pause(self) -> None:
        """Read nothing more until the journal has room: the broker keeps what it has."""
        if self.source is not None:
            self.source.pause()  # also where it was: a new connection reads
        if not self._paused:
            self._paused = True
            self._background.spawn(self._go_on())

    async def _go_on(self) -> None:
        while not self._journal.has_room or self._not_kept:
            await self._journal.wait_for_room()
            if self._not_kept:
                await self._world.sleep(RETRY)
        self._paused = False
        if self.source is not None:
            self.source.resume()


def _digest(message: DeviceMessage) -> int:
    topic = message.topic.encode(errors="replace")
    hashed = hashlib.blake2b(len(topic).to_bytes(4, "big") + topic, digest_size=8)
    hashed.update(message.body)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def _delivered(entry: NewEvent, delivery: Delivery) -> NewEvent:
    return NewEvent(entry.topic, entry.body, entry.lane, documents=entry.documents, on_commit=entry.on_commit,
                    delivery=delivery)  # fmt: skip
