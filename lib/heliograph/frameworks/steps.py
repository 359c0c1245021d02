"""The steps of a model's local training: counted, and their gradients corrected, in the user's unchanged loop.

An adapter with ``steps()`` finds the gradients itself. Of any other model the script hands them over, or says of a fit
that it is a step (``Round.correct`` and ``Round.correct_fit``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from heliograph.frameworks import ModelAdapter
from heliograph.local_terms.base import Correction

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class StepsTaken:
    """The steps of one round.

    Attributes:
        count: steps of the optimizer.
        momentum: the momentum of plain gradient descent; 0 for any other optimizer.
        weights: names of the weights that were moved by steps.
        gradients: by name, the mean of the gradients before their correction; empty where nobody asked for it.
    """

    count: int = 0
    momentum: float = 0.0
    weights: frozenset[str] = frozenset()
    gradients: Arrays = field(default_factory=dict)


class Steps(Protocol):
    """Follows the steps of one model, round after round."""

    def begin(self, correction: Correction | None, *, averages: bool) -> None:
        """Follow the steps from now on.

        Args:
            correction: what to add to gradients; None for nothing.
            averages: whether to take the mean of the gradients.
        """
        ...

    def end(self) -> StepsTaken:
        """Return the steps since ``begin``, and follow no more."""
        ...


def steps_of(adapter: ModelAdapter) -> Steps:
    """Return the steps of an adapter's model; one that cannot tell them gets them from the script."""
    own = getattr(adapter, "steps", None)
    found: Steps = own() if own is not None else GivenSteps()
    return found


class GivenSteps:
    """Steps that the script tells."""

    def __init__(self) -> None:
        self._correction: Correction | None = None
        self._averages = False
        self._count = 0
        self._sums: dict[str, Array] = {}
        self._weights: set[str] = set()

    def begin(self, correction: Correction | None, *, averages: bool) -> None:
        self._correction, self._averages, self._count, self._sums, self._weights = correction, averages, 0, {}, set()

    def end(self) -> StepsTaken:
        gradients = {name: total / self._count for name, total in self._sums.items()}
        return StepsTaken(self._count, weights=frozenset(self._weights), gradients=gradients)

    def take(self, gradients: Arrays, weights: Arrays) -> dict[str, Array]:
        """Count one step. Return its gradients, corrected.

        Args:
            weights: the weights at which the gradients were computed.
        """
        self._count += 1
        self._weights |= gradients.keys()
        if self._averages:
            for name, gradient in gradients.items():
                self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient.copy()
        correction = self._correction
        if correction is None:
            return dict(gradients)
        return {
            name: gradient * 0 if correction.rests(name, self._count)
            else gradient + addition(correction, name, weights[name])
            for name, gradient in gradients.items()
        }  # fmt: skip


def addition(correction: Correction, name: str, weights: Any) -> Any:
    """Return what is added to the gradient of one weight, as an array or a number 0."""
    added: Any = correction.shift.get(name, 0.0)
    if correction.pull and name in correction.anchor:
        added = added + correction.pull * (weights - correction.anchor[name])
    return added
