"""Ids, secrets and random numbers of a simulated process, the same in every run of a seed."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from heliograph.core.world import seeded


class Draws:
    """A ``random.Random`` that is created at the first draw; ids and secrets are hashes of their number.

    A generator takes 2.5 kB, there are tens of thousands of processes, and few of them ever draw.
    """

    __slots__ = ("_last", "_rng", "_seed")

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._last = 0
        self._rng: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._rng is None:
            self._rng = seeded(self._seed)
        return getattr(self._rng, name)

    def new_id(self) -> str:
        self._last += 1
        return blake2b(f"{self._seed}/{self._last}".encode(), digest_size=16).hexdigest()

    def new_secret(self) -> bytes:
        self._last += 1
        return blake2b(f"{self._seed}/{self._last}".encode(), digest_size=32).digest()
