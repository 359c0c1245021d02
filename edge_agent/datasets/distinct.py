"""Tell names that come twice among millions, at eight bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b

PARTS = 256


class Distinct:
    """Names seen so far, as hashes of 64 bits in 256 parts: sorting a part takes little memory."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(PARTS)]

    def add(self, name: bytes) -> None:
        found = hash_of(name)
        self._parts[found & (PARTS - 1)].append(found)

    def repeated(self) -> set[int]:
        """Return the hashes that were added more than once."""
        found = set()
        for part in self._parts:
            before = -1
            for each in sorted(part):
                if each == before:
                    found.add(each)
                before = each
        return found


def first_repeated(names: Iterable[bytes], repeated: set[int]) -> bytes | None:
    """Return the first name that comes a second time, of the names that were added; None where only hashes are
    equal."""
    seen = set()
    for name in names:
        if hash_of(name) in repeated:
            if name in seen:
                return name
            seen.add(name)
    return None


def hash_of(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")
