"""Updates that are far from their base by the measure of their round. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heliograph.core.errors import Refused

ENOUGH = 3
"""Updates from which a median tells anything, at least."""
FLOOR = 0.1
"""Share of the base's norm that any update may move: where most edges have converged, one with new data has not."""


def far_updates(distances: Mapping[str, float], factor: float, base_norm: Callable[[], float]) -> dict[str, str]:
    """Return the edges whose update moved too far from the base, each with the reason.

    An update is too far if it moved more than ``factor`` times the median of the round, and more than ``FLOOR`` of the
    base's norm.

    Args:
        distances: L2 distance of each update from the base.
        factor: 0 for no bound.
        base_norm: returns the L2 norm of the base; called only where an update is above the median's bound.
    """
    if not factor or len(distances) < ENOUGH:
        return {}
    median = sorted(distances.values())[(len(distances) - 1) // 2]
    far = {edge: distance for edge, distance in sorted(distances.items()) if distance > factor * median}
    if not far:
        return {}
    bound = max(factor * median, FLOOR * base_norm())
    return {
        edge: str(Refused("norm", field="weights", got=f"{distance:g}", expected=f"an update of L2 norm at most "
                          f"{bound:g}; the median of the round is {median:g}, norm_factor {factor:g}"))
        for edge, distance in far.items() if distance > bound
    }  # fmt: skip
