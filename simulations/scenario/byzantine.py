"""What a byzantine edge sends in the place of its update: what breaks, what is absurd, and what is only wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliograph.simulations.scenario.document import Behaviour

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliograph.simulations.scenario.neural_network import Array, Arrays

HUGE = 10**18
"""Samples that an edge claims; it would weigh more than all others together."""


def flipped(labels: Array, classes: int) -> Array:
    """Labels told the wrong way round, as a poisoned data set has them."""
    wrong: Array = classes - 1 - labels
    return wrong


def spoilt(behaviour: Behaviour, amount: float, base: Arrays, update: Mapping[str, Array]) -> dict[str, Array]:
    """The update as the edge sends it; ``label-flip`` and ``huge-num-samples`` leave the weights as they are.

    ``sign-flip`` goes ``amount`` times as far from the base as the honest update, the other way; ``scale`` goes
    ``amount`` times as far.
    """
    import numpy as np

    last = list(update)[-1]
    if behaviour == "nan":
        return {**update, last: np.full_like(update[last], np.nan)}
    if behaviour == "wrong-shape":
        return {**update, last: np.zeros((1,), np.float32)}
    if behaviour in ("sign-flip", "scale"):
        factor = np.float32(-amount if behaviour == "sign-flip" else amount)
        return {name: base[name] + factor * (array - base[name]) for name, array in update.items()}
    return dict(update)
