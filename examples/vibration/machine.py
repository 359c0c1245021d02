"""A press whose bearing wears: what its two accelerometers measure, in g.

A defect on a race of a rolling bearing is struck by each ball that passes. Each blow makes the housing ring at its own
resonance, which dies away in milliseconds. How often balls pass follows from the bearing's geometry: here 3.585 times a
turn over the outer race and 5.415 times over the inner one, whose defect turns through the loaded zone once a turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STATES = ["ok", "outer-race", "inner-race"]
RATE = 2048
"""Samples a second."""
LENGTH = 512
"""Samples of one message: a quarter of a second."""
OUTER, INNER = 3.585, 5.415
SLIP = 0.01
"""Balls slip: the time between two blows varies by so much of it."""


class Press:
    """One press. Presses differ in speed, resonance and noise.

    Args:
        number: which press; the same number is the same press.
        seed: another course of noise and blows.
    """

    def __init__(self, number: int, seed: int = 0) -> None:
        of_press = np.random.default_rng(number)
        self._turns = of_press.uniform(29.0, 29.9)  # a motor of four poles at 60 Hz, with its slip
        self._resonance = of_press.uniform(500, 700)
        self._noise = of_press.uniform(0.18, 0.26)
        self._rng = np.random.default_rng([number, seed])

    def measure(self, state: str, count: int = LENGTH) -> np.ndarray[Any, Any]:
        """Return so many samples of both accelerometers, count × 2."""
        rng, time = self._rng, np.arange(count) / RATE
        turn = 2 * np.pi * (self._turns * time + rng.uniform())
        found = rng.normal(0, self._noise, (count, 2))
        found += 0.5 * np.column_stack([np.sin(turn), np.cos(turn)])  # what no balance takes away
        if state != "ok":
            ringing = self._ringing(state, time)
            found += np.outer(ringing, rng.uniform(0.7, 1.0, 2))
        return found

    def _ringing(self, state: str, time: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rng = self._rng
        every = 1 / (self._turns * (OUTER if state == "outer-race" else INNER))
        blows = np.cumsum(every * (1 + rng.normal(0, SLIP, int(time[-1] / every) + 8))) - 4 * every * rng.uniform()
        size = rng.uniform(0.7, 1.2)
        total = np.zeros(len(time))
        for blow in blows:
            since = np.maximum(time - blow, 0)
            loaded = 1.0 if state == "outer-race" else 0.6 + 0.4 * np.cos(2 * np.pi * self._turns * blow)
            total += size * loaded * np.exp(-since * 250) * np.sin(2 * np.pi * self._resonance * since)
        return total
