"""Numbers that an algorithm needs from each update: reported by the participants as metrics of their training."""

from __future__ import annotations

import math

from heliograph.workers.algorithms.base import RoundFacts

LOCAL_STEPS = "local_steps"
"""Steps of the optimizer in the round's local training."""
LOCAL_MOMENTUM = "local_momentum"
"""Momentum of the local optimizer; 0 where a participant reports none."""
RECEIVED_LOSS = "received_loss"
"""Mean loss of the received model over the participant's samples, before it trains."""


def reported(
    facts: RoundFacts, name: str, least: float, most: float = math.inf, *, default: float | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the metric of that name by edge, and why each other edge has none that counts.

    Args:
        least, most: the bounds of a plausible number.
        default: the number of an edge that reports none; by default its update does not count.
    """
    found: dict[str, float] = {}
    without: dict[str, str] = {}
    for edge, metrics in zip(facts.edges, facts.metrics, strict=True):
        number = metrics.get(name, default)
        if number is None:
            without[edge] = f"metric {name}: expected one with each update, got none; {_how_to_mend(name)}"
        elif not (math.isfinite(number) and least <= number <= most):
            upper = "" if most == math.inf else f" to {most:g}"
            without[edge] = f"metric {name}: expected a number from {least:g}{upper}, got {number:g}"
        else:
            found[edge] = float(number)
    return found, without


def _how_to_mend(name: str) -> str:
    if name == RECEIVED_LOSS:
        return "give FederatedLearning a function: loss=..., which measures the model that came"
    return f"train with an optimizer of PyTorch or Keras, or report it in the loop: r.report({name}=...)"
