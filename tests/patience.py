"""The longest time that a test waits before it fails."""

from __future__ import annotations

import random

from heliograph.core.world import World

HANGS = 300.0
"""Seconds. On a machine with ten runnable processes for each core, a process takes half a minute to start. No test
measures this time, and a passing test never waits so long."""


class _Shortest(random.Random):
    def random(self) -> float:
        return 0.02


def impatient() -> World:
    """Return a world whose clients try again at once, where a test breaks one connection after the other."""
    return World(rng=_Shortest())
