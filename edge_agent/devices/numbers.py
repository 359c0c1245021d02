"""The numbers of a device that numbers its events: which event was taken before, and what is wrong with the others.

A device that keeps to the rules counts from 1 without a gap, and sends again what has not been acknowledged. Others
begin anywhere, begin again, or share a name. Only an event that was taken before is passed over.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Literal

Verdict = Literal["next", "repeated", "gap", "late", "reused", "replaced"]
"""``gap``: events before it are missing. ``late``: it fills such a gap, which is given up already. ``reused``: another
event has had its number, or may have had it: that is not known any more. ``replaced``: its incarnation is an earlier
one."""
WINDOW = 512
"""Newest numbers whose events are known again: as many as a producer of ours sends without an acknowledgement."""
_DIGEST = 4
_NONE = bytes(_DIGEST)
_HEAD = struct.Struct(">QQB")


class Numbers:
    """The numbers of one device under one incarnation.

    Args:
        highest: the highest number taken, where nothing else is known of what was; a window up to it counts as taken.

    Attributes:
        highest: the highest number taken since the device last began to count.
    """

    def __init__(self, incarnation: str, highest: int = 0) -> None:
        self.incarnation = incarnation
        self.highest = highest
        self._known_from = highest + 1
        self._digests = bytearray(WINDOW * _DIGEST)

    def verdict(self, number: int, digest: bytes) -> Verdict:
        """Return what an event is; ``digest`` is ``digest_of`` its bytes."""
        if number > self.highest:
            return "next" if number == self.highest + 1 else "gap"
        if self.highest - WINDOW < number < self._known_from:
            return "repeated"
        known = self._digest(number)
        if known == digest:
            return "repeated"
        return "late" if known == _NONE else "reused"

    def take(self, number: int, digest: bytes) -> None:
        """Take note of an event that was taken, whatever its verdict. An event 1 begins the numbers anew."""
        if number == 1 and self.highest:
            self.highest, self._known_from = 0, 1
        for missing in range(max(self.highest + 1, number - WINDOW + 1), number):
            self._put(missing, _NONE)
        self.highest = max(self.highest, number)
        if number > self.highest - WINDOW:
            self._put(number, digest)

    def packed(self) -> bytes:
        """Return all of it, to be kept together with the event that was taken."""
        name = self.incarnation.encode()
        used = min(WINDOW, self.highest + 1) * _DIGEST
        return b"".join((_HEAD.pack(self.highest, self._known_from, len(name)), name, self._digests[:used]))

    @classmethod
    def unpacked(cls, kept: bytes) -> Numbers | None:
        """Return what ``packed`` gave; None for other bytes."""
        try:
            highest, known_from, length = _HEAD.unpack_from(kept)
            found = cls(kept[_HEAD.size : _HEAD.size + length].decode(), highest)
        except (struct.error, UnicodeDecodeError):
            return None
        digests = kept[_HEAD.size + length :]
        if len(digests) != min(WINDOW, highest + 1) * _DIGEST:
            return None
        found._known_from = known_from
        found._digests[: len(digests)] = digests
        return found

    def _digest(self, number: int) -> bytes | None:
        """Return the digest of a number's event, zeros where none was taken; None where that is not known any more."""
        if number <= self.highest - WINDOW:
            return None
        place = number % WINDOW * _DIGEST
        return bytes(self._digests[place : place + _DIGEST])

    def _put(self, number: int, digest: bytes) -> None:
        place = number % WINDOW * _DIGEST
        self._digests[place : place + _DIGEST] = digest


def digest_of(body: bytes) -> bytes:
    """Return a short digest of an event, which is never the one of none."""
    return hashlib.blake2b(body, digest_size=_DIGEST).digest().replace(_NONE, b"\0\0\0\1")
