"""A simulated process's ids, secrets and random numbers: the same in every run of one seed."""

from __future__ import annotations

import itertools
from hashlib import blake2b
from typing import Any

from heliograph.bus.world import seeded


class Draws:
    """Stands for its ``random.Random``, which is seeded when it is first drawn from: there are tens of thousands of
    processes, each generator takes 2.5 kB, and few of them ever draw. Ids and secrets are hashes of their number.
    """

    __slots__ = ("_numbers", "_rng", "_seed")

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._numbers = itertools.count()
        self._rng: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._rng is None:
            self._rng = seeded(self._seed)
        return getattr(self._rng, name)

    def new_id(self) -> str:
        return self._next(16).hex()

    def new_secret(self) -> bytes:
        return self._next(32)

    def _next(self, size: int) -> bytes:
        return blake2b(f"{self._seed}/{next(self._numbers)}".encode(), digest_size=size).digest()
