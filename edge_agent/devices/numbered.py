"""The devices that number their events: their numbers, kept in the journal together with the events."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from heliograph.edge_agent.devices.numbers import Numbers
from heliograph.edge_agent.journal import MAX_PRODUCERS, Journal
from heliograph.edge_agent.producers import DEVICE, RETIRED, key_of

IN_MEMORY = 1024
"""Devices whose numbers are in memory at the same time; those of the others are read again when they send."""
_PREFIX = "numbers/"
_LENGTH = struct.Struct(">I")


@dataclass(slots=True)
class Numbered:
    """One device.

    Attributes:
        present: its numbers under its newest incarnation.
        retired: those under earlier ones, oldest first.
        on_disk: the highest number of ``present`` that is on the disk, for acknowledgements.
        under_way: its events that wait for their commit.
        json: whether it writes JSON, and wants to read it.
        digits: digits of the text by which it writes a number, with zeros in front; 0 where it writes a number.
    """

    present: Numbers
    retired: list[Numbers] = field(default_factory=list)
    on_disk: int = 0
    under_way: int = 0
    json: bool = False
    digits: int = 0

    def numbers(self, incarnation: str) -> Numbers | None:
        return next((each for each in (self.present, *self.retired) if each.incarnation == incarnation), None)

    def begin(self, incarnation: str) -> Numbers:
        """Put a new incarnation in the place of the present one."""
        self.retired = [*self.retired, self.present][-RETIRED:]
        self.present, self.on_disk = Numbers(incarnation), 0
        return self.present


def key_of_numbers(name: str) -> str:
    """Return the key of the journal's document with a device's numbers."""
    return f"{_PREFIX}{name}"


def highest_of(kept: bytes, incarnation: str) -> int:
    """Return the highest number under an incarnation, of the document with a device's numbers; 0 where it has none."""
    found = filter(None, map(Numbers.unpacked, _parts(kept)))
    return next((each.highest for each in found if each.incarnation == incarnation), 0)


class NumberedDevices:
    """All of them. At ``MAX_PRODUCERS`` the ones silent longest are forgotten, since any client has any names."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._found: OrderedDict[str, Numbered] = OrderedDict()
        self._kept: OrderedDict[str, None] | None = None

    def find(self, name: str, incarnation: str) -> Numbered:
        """Return a device. One that is not known yet begins under that incarnation."""
        device = self._found.pop(name, None) or self._load(name) or Numbered(Numbers(incarnation))
        self._found[name] = device
        if len(self._found) > IN_MEMORY:
            oldest, other = self._found.popitem(last=False)
            if other.under_way:  # the journal does not know all of its numbers yet
                self._found[oldest] = other
        return device

    def documents(self, name: str, device: Numbered) -> Mapping[str, bytes]:
        """Return what is to be kept together with the event that a device's numbers have changed by."""
        packed = (each.packed() for each in (device.present, *device.retired))
        return {key_of_numbers(name): b"".join(part for each in packed for part in (_LENGTH.pack(len(each)), each))}

    def surplus(self, name: str) -> str:
        """Take note that a device's numbers are kept; return the key of a document to be deleted in its place, if
        there are too many."""
        if self._kept is None:
            self._kept = OrderedDict.fromkeys(key.removeprefix(_PREFIX) for key in self._journal.keys(_PREFIX))
        self._kept.pop(name, None)
        self._kept[name] = None
        if len(self._kept) <= MAX_PRODUCERS:
            return ""
        oldest, _ = self._kept.popitem(last=False)
        self._found.pop(oldest, None)
        return key_of_numbers(oldest)

    def _load(self, name: str) -> Numbered | None:
        kept = [found for part in _parts(self._journal.load(key_of_numbers(name)))
                if (found := Numbers.unpacked(part)) is not None]  # fmt: skip
        if not kept:  # an earlier version notes the highest number alone
            incarnation, highest = self._journal.newest(key_of(DEVICE, name))
            kept = [Numbers(incarnation, highest)] if incarnation else []
        return Numbered(kept[0], kept[1:], kept[0].highest) if kept else None


def _parts(kept: bytes) -> Iterator[bytes]:
    while len(kept) > _LENGTH.size:
        (length,) = _LENGTH.unpack_from(kept)
        yield kept[_LENGTH.size : _LENGTH.size + length]
        kept = kept[_LENGTH.size + length :]
