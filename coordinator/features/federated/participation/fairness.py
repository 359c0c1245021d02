"""The floor of a selection: each edge that can work is asked at least once in so many rounds. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from heliograph.coordinator.features.federated.participation.candidates import Candidate


def due_now(candidates: Sequence[Candidate], number: int, round: int, at_least_every: int) -> list[str]:
    """Return the edges that have to be asked in this round, at most ``number``, so that none waits longer than
    ``at_least_every`` rounds in this or any later round; no more of them than necessary.

    Each edge has to be asked until the round ``asked + at_least_every``, and a round has ``number`` places. Those that
    are due up to some round and have no place in the rounds between this one and that one are asked now, the most
    urgent first. Where ``number`` x ``at_least_every`` is at least the number of edges, that is always possible.
    """
    ordered = sorted(candidates, key=lambda each: (each.memory.asked, each.name))
    ends = [each.memory.asked + at_least_every - round for each in ordered]
    needed = 0
    for later in range(min(at_least_every, len(ordered) // max(1, number) + 1)):
        needed = max(needed, bisect.bisect_right(ends, later) - number * later)
    return [each.name for each in ordered[: min(needed, number)]]


def shortfall(edges: int, number: int, at_least_every: int) -> str:
    """Return why the floor cannot be kept; empty where it can."""
    if number * at_least_every >= edges:
        return ""
    return (f"{number} of {edges} edges a round: each is asked about once in {-(-edges // number)} rounds, not in "
            f"{at_least_every}")  # fmt: skip
