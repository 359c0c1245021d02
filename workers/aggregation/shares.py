"""The share of one participant in a round: no edge outweighs the others by the samples that it claims. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

SPREAD = 1.5
"""The default bound of a share among n counted updates is ``SPREAD`` / √n: with up to two there is none, among nine it
is a half, among a hundred 0.15, which is fifteen times the mean."""


def largest_share(updates: int, wanted: float | None = None) -> float:
    """Return the largest share of one of so many updates.

    Args:
        wanted: the job's ``max_share``; None for the default. A share below 1 / n becomes 1 / n: all weigh the same.
    """
    most = SPREAD / math.sqrt(updates) if wanted is None else wanted
    return min(1.0, max(most, 1 / updates))


def capped_samples(samples: Mapping[str, float], wanted: float | None = None) -> dict[str, float]:
    """Return the samples by which each edge counts: as claimed, but at most the largest share of their new sum.

    Where no edge is above it, the numbers are the claimed ones.
    """
    found = {edge: float(number) for edge, number in samples.items()}
    share = largest_share(len(found), wanted) if found else 1.0
    descending = sorted(found.values(), reverse=True)
    rest = sum(descending)
    most, capped = share * rest, 0
    while capped < len(descending) and share < 1 and descending[capped] > most:
        rest -= descending[capped]
        capped += 1
        if capped * share >= 1:
            break
        # the capped ones weigh ``share`` each, and the others together what is left
        most = share * rest / (1 - capped * share)
    return {edge: min(number, most) for edge, number in found.items()} if capped else found
