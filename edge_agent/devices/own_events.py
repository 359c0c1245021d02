"""The events that a device has written itself, and numbered: each once, in their order where the device keeps to the
rules, and acknowledged to it, in its own form, when it is on the disk.

A number that is no next one costs no event: it is taken, with the attribute ``anomaly``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack

from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.topics import ACK, TELEMETRY
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.edge_agent.devices.numbered import Numbered, NumberedDevices
from heliograph.edge_agent.devices.numbers import Numbers, Verdict, digest_of
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.producers import DEVICE, Anomaly, ProducerWatch, key_of

ACK_EVERY = 0.005
"""Seconds between two acknowledgements: each is a message, and a device with room in its window waits for none."""
HOLD = 2.5
"""Seconds for which an event behind a gap waits for those before it, where the broker does not repeat it: a device that
keeps its events sends the missing ones again after a second."""
MOST_HELD, MOST_HELD_BYTES = 256, 4 << 20
"""Events that wait so at the same time, and their bytes; a further one is taken at once."""
_MAPS = frozenset(bytes((first,)) for first in (*range(0x80, 0x90), 0xDE, 0xDF))
"""First bytes of an event in MessagePack."""


@dataclass(frozen=True, slots=True)
class OwnEvent:
    """A numbered event of a device.

    Attributes:
        address: the topic that it is journalled under.
        tree: its attributes.
        repeats: whether the broker sends it again until it is acknowledged.
    """

    device: str
    incarnation: str
    number: int
    address: str
    tree: dict[str, Any]
    body: bytes
    repeats: bool

    @property
    def digest(self) -> bytes:
        return digest_of(self.body)

    @property
    def is_json(self) -> bool:
        return self.body[:1] not in _MAPS


@dataclass(slots=True)
class _Held:
    """Events of one device that wait for those before them, by their numbers."""

    until: float
    events: dict[int, OwnEvent] = field(default_factory=dict)


class OwnEvents:
    """The numbered events of all devices.

    Args:
        bus: the devices' broker, where their acknowledgements go.
        source: of the acknowledgements.
        watch: takes note of numbers that are no next ones.
        keep: journals an event that has waited.

    Attributes:
        repeated: events since the agent's start that had been taken before.
    """

    def __init__(
        self, bus: Bus, source: str, journal: Journal, watch: ProducerWatch, world: World, background: Background,
        keep: Callable[[NewEvent], None],
    ) -> None:  # fmt: skip
        self.repeated = 0
        self._bus = bus
        self._source = source
        self._journal = journal
        self._watch = watch
        self._world = world
        self._background = background
        self._keep = keep
        self._devices = NumberedDevices(journal)
        self._held: dict[str, _Held] = {}
        self._waiting = [0, 0]
        self._to_acknowledge: dict[str, Numbered] = {}

    def take(self, event: OwnEvent) -> NewEvent | None:
        """Return what is journalled of an event; None where it was taken before, or waits for those before it."""
        known = self._devices.find(event.device, event.incarnation)
        given = event.tree["sequence"]
        known.json, known.digits = event.is_json, len(given) if isinstance(given, str) else 0
        numbers = known.numbers(event.incarnation) or known.begin(event.incarnation)
        verdict = numbers.verdict(event.number, event.digest)
        if verdict == "repeated":
            self.repeated += 1
            self._acknowledge(event.device, known, numbers)
            return None
        if verdict == "gap" and not event.repeats and self._hold(event):
            self._acknowledge(event.device, known, numbers)
            return None
        if event.device in self._held:
            self._background.spawn(self._take_what_follows(event.device))
        return self._entry(event, known, numbers, verdict)

    def _entry(self, event: OwnEvent, known: Numbered, numbers: Numbers, verdict: Verdict) -> NewEvent:
        """Return an event as it is journalled, together with the numbers of its device."""
        body, mark = event.body, self._mark(event, known, numbers, verdict)
        if mark:
            body = _marked(event, mark)
        numbers.take(event.number, event.digest)
        head, known.under_way = numbers.highest, known.under_way + 1
        if forgotten := self._devices.surplus(event.device):
            self._background.spawn(self._journal.delete(forgotten))

        def on_disk() -> None:
            known.under_way -= 1
            if numbers is known.present:
                known.on_disk = head
                self._acknowledge(event.device, known, numbers)

        return NewEvent(event.address, body, TELEMETRY.lane, documents=self._devices.documents(event.device, known),
                        on_commit=on_disk)  # fmt: skip

    def _mark(self, event: OwnEvent, known: Numbered, numbers: Numbers, verdict: Verdict) -> str:
        """Return what is wrong with an event's number, and take note of it; empty where nothing is."""
        producer = key_of(DEVICE, event.device)
        anomaly: Anomaly | None = None
        if not numbers.highest:
            self._watch.began(producer, event.incarnation)
        if numbers is not known.present:
            verdict, anomaly = "replaced", "replaced"
        elif verdict == "gap":
            anomaly = "skips" if numbers.highest else "begins-late"
        elif verdict != "next":
            anomaly = "late" if verdict == "late" else "reused"
        if anomaly is None:
            return ""
        self._watch.note(anomaly, producer, event.incarnation, event.number)
        return verdict

    def _hold(self, event: OwnEvent) -> bool:
        """Let an event wait for those before it; return False where too many wait, or another one of its number."""
        held = self._held.get(event.device)
        waiting = held.events.get(event.number) if held is not None else None
        if waiting is not None:
            return waiting.body == event.body
        if self._waiting[0] >= MOST_HELD or self._waiting[1] >= MOST_HELD_BYTES:
            return False
        if held is None:
            held = self._held[event.device] = _Held(self._world.monotonic() + HOLD)
            self._background.spawn(self._give_up(event.device, held))
        held.events[event.number] = event
        self._waiting[0] += 1
        self._waiting[1] += len(event.body)
        return True

    async def _give_up(self, device: str, held: _Held) -> None:
        """Take what waits, marked, once those before it have not come in time."""
        while self._held.get(device) is held:
            left = held.until - self._world.monotonic()
            if left > 0:
                await self._world.sleep(left)
                continue
            del self._held[device]
            for number in sorted(held.events):
                self._take_held(held, number)

    async def _take_what_follows(self, device: str) -> None:
        """Take what waited for an event that has come; let the rest wait on."""
        held = self._held.get(device)
        if held is None:
            return
        for number in sorted(held.events):
            event = held.events[number]
            numbers = self._devices.find(device, event.incarnation).numbers(event.incarnation)
            if numbers is None or numbers.verdict(number, event.digest) == "gap":
                held.until = self._world.monotonic() + HOLD
            else:
                self._take_held(held, number)
        if not held.events and self._held.get(device) is held:
            del self._held[device]

    def _take_held(self, held: _Held, number: int) -> None:
        event = held.events.pop(number)
        self._waiting[0] -= 1
        self._waiting[1] -= len(event.body)
        known = self._devices.find(event.device, event.incarnation)
        numbers = known.numbers(event.incarnation) or known.begin(event.incarnation)
        verdict = numbers.verdict(event.number, event.digest)
        if verdict != "repeated":
            self._keep(self._entry(event, known, numbers, verdict))

    def _acknowledge(self, device: str, known: Numbered, numbers: Numbers) -> None:
        if numbers is not known.present:  # nobody reads it: its device has begun anew, or shares its name
            return
        if not self._to_acknowledge:
            self._background.spawn(self._publish_acks())
        self._to_acknowledge[device] = known

    async def _publish_acks(self) -> None:
        await self._world.sleep(ACK_EVERY)
        acks, self._to_acknowledge = self._to_acknowledge, {}
        for device, known in acks.items():
            number: int | str = str(known.on_disk).zfill(known.digits) if known.digits else known.on_disk
            address = ACK.at(producer=device)
            event = Event(id=self._world.new_id(), source=self._source, type=ACK.type, time=self._world.timestamp(),
                          data={"incarnation": known.present.incarnation, "sequence": number},
                          subject=address)  # fmt: skip
            with contextlib.suppress(HeliographError):  # the device sends again, and gets another acknowledgement
                await self._bus.publish(address, encode(event, "json" if known.json else "msgpack"), sure=False)


def _marked(event: OwnEvent, anomaly: str) -> bytes:
    """Return an event with what is wrong with its number, in its own encoding."""
    tree = {**event.tree, "anomaly": anomaly}
    if event.is_json:
        return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
    return bytes(msgpack.packb(tree))
