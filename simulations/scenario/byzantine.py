"""The updates of byzantine edges: unreadable, absurd, or only wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliograph.simulations.scenario.document import Behaviour

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heliograph.simulations.scenario.neural_network import Array, Arrays

HUGE = 10**18
"""Number of samples claimed by ``huge-num-samples``: more than any edge has."""
PLAUSIBLE = 90_000_000
"""Number of samples claimed by ``outweigh``: an edge may have as many, and would outweigh all others together."""


def flip_labels(labels: Array, classes: int) -> Array:
    """Return the labels in reverse order of classes, like a poisoned data set."""
    wrong: Array = classes - 1 - labels
    return wrong


def corrupt(behaviour: Behaviour, amount: float, base: Arrays, update: Mapping[str, Array]) -> dict[str, Array]:
    """Return the update that a byzantine edge sends; ``label-flip``, ``outweigh`` and
    ``huge-num-samples`` keep the weights.

    ``scale`` multiplies the update's difference from the base by ``amount``, ``sign-flip`` by minus ``amount``.
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
