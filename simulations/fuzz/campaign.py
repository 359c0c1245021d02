"""Many seeds played on a few processes, with a verdict on each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heliograph.simulations.fuzz.draw import draw
from heliograph.simulations.fuzz.played_plan import play


@dataclass(frozen=True)
class Verdict:
    """The verdict on a seed's run: the names of violated invariants, and the texts of the violations."""

    seed: str
    digest: str
    violated: tuple[str, ...]
    texts: tuple[str, ...]


def verdict(seed: str) -> Verdict:
    """Play one seed."""
    outcome = play(draw(seed))
    names = tuple(dict.fromkeys(each.invariant for each in outcome.violations))
    return Verdict(seed, outcome.digest, names, tuple(map(str, outcome.violations)))


def verdicts(seeds: Sequence[str], jobs: int) -> Iterator[Verdict]:
    """Play all seeds, ``jobs`` at a time, and yield their verdicts as they end."""
    if jobs <= 1 or len(seeds) == 1:
        yield from map(verdict, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(verdict, seeds)
