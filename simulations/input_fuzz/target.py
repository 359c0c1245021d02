"""A target of the fuzzer: how valid inputs are made, and which reader takes them."""

from __future__ import annotations

import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heliograph.simulations.input_fuzz.mutate import mutate_bytes

MIB = 1 << 20
Draw = Callable[[random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """A reader and its inputs.

    Attributes:
        valid: draws an input that the reader is likely to accept.
        read: reads an input; returns, or raises HeliographError. Its second argument is an empty directory.
        draw: draws an input, valid or not; without it the bytes of a valid one are mutated.
        seconds: CPU time of a read, at most.
        memory: bytes that a read may allocate, at most.
    """

    name: str
    valid: Draw
    read: Callable[[bytes, Path], object]
    draw: Draw | None = None
    seconds: float = 10.0
    memory: int = 768 * MIB

    def input(self, rng: random.Random) -> bytes:
        """Return an input: now and then a valid one, mostly a mutated one."""
        if rng.random() < 0.05:
            return self.valid(rng)
        if self.draw is not None:
            return self.draw(rng)
        return mutate_bytes(rng, self.valid(rng), self.valid(rng))
