"""What TLS between the edges and the cloud costs: the same work with it and without, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks import echo, inference_calls
from benchmarks.declaration import Samples
from heliograph.local.cluster import HERE
from heliograph.local.cluster_tls import Listening

SECURED = Listening(names=("localhost",))
TURNS = 3
ROUNDS = 30


def rounds() -> Samples:
    """Return milliseconds of echo rounds of 1 MB on 4 edges: ``tls``, ``plain``, and ``ratio`` of each turn."""
    return _in_turns(lambda listening: echo.rounds(4, 1_000_000, ROUNDS, listening)["round"])


def offloads() -> Samples:
    """Return milliseconds of a device's offloaded calls: ``tls``, ``plain``, and ``ratio`` of each turn."""
    return _in_turns(inference_calls.offloads)


def _in_turns(measured: Callable[[Listening], Sequence[float]]) -> Samples:
    found: dict[str, list[float]] = {"tls": [], "plain": [], "ratio": []}
    for turn in range(TURNS):
        pair = {}
        for name, listening in _order(turn):
            laps = measured(listening)
            pair[name] = statistics.median(laps)
            found[name] += laps
        found["ratio"].append(pair["tls"] / pair["plain"])
    return found


def _order(turn: int) -> list[tuple[str, Listening]]:
    both = [("plain", HERE), ("tls", SECURED)]
    return both[::-1] if turn % 2 else both
