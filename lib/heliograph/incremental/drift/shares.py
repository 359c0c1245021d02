"""From the times of drifts on each edge to the share of the edges that have seen one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from heliograph.bus.contract.payloads import InferenceStats


def shares(drifts: Mapping[str, Mapping[str, float]], since: float) -> dict[tuple[str, str], float]:
    """Return the share of edges by what is watched and by which detector.

    Args:
        drifts: of each edge that serves, ``scores/psi`` and the like to the time of the last drift.
        since: drifts at or before this time do not count.
    """
    found = Counter(key for seen in drifts.values() for key, time in seen.items() if time > since)
    pairs = {(what, detector): count for key, count in found.items() for what, _, detector in [key.partition("/")]}
    return {pair: count / len(drifts) for pair, count in pairs.items()}


def newest_drifts(stats: Iterable[InferenceStats]) -> dict[str, float]:
    """Return when each detector last saw a drift, in any of an edge's workers."""
    found: dict[str, float] = {}
    for each in stats:
        for key, time in each.drift.items():
            found[key] = max(time, found.get(key, time))
    return found
