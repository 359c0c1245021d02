"""The share of one participant in a round: no edge outweighs the others by the samples that it claims. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

ENOUGH = 3
"""Updates among which a share is bounded by default, at least: of two nobody knows which outweighs whom."""
SPREAD, LEAST = 1.25, 0.25
"""The default bound of a share among n counted updates is ``SPREAD`` / √n, and not below ``LEAST``: 0.72 among three,
0.4 among ten. The largest part of a split by Zipf's law with exponent 1 hardly reaches it."""


def largest_share(updates: int, wanted: float | None = None) -> float:
    """Return the largest share of one of so many updates.

    Args:
        wanted: the job's ``max_share``; None for the default. A share below 1 / n becomes 1 / n: all weigh the same.
    """
    if wanted is None:
        return min(1.0, max(SPREAD / math.sqrt(updates), LEAST)) if updates >= ENOUGH else 1.0
    return max(wanted, 1 / updates)


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
