"""Many seeds on a few processes, and what each came to."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heliograph.simulations.fuzz.draw import draw
from heliograph.simulations.fuzz.played_plan import play


@dataclass(frozen=True)
class Verdict:
    """What a seed's run came to. ``broken`` are the names of the invariants that do not hold."""

    seed: str
    digest: str
    broken: tuple[str, ...]
    told: tuple[str, ...]


def verdict(seed: str) -> Verdict:
    """Plays one seed."""
    outcome = play(draw(seed))
    names = tuple(dict.fromkeys(each.invariant for each in outcome.violations))
    return Verdict(seed, outcome.digest, names, tuple(map(str, outcome.violations)))


def verdicts(seeds: Sequence[str], jobs: int) -> Iterator[Verdict]:
    """Plays all, ``jobs`` at a time, and yields them as they end."""
    if jobs <= 1 or len(seeds) == 1:
        yield from map(verdict, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(verdict, seeds)
