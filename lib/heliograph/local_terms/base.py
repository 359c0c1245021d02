"""A term of the local training: what it adds to gradients, and what it keeps and sends after a round.

All terms of the algorithms here are of one form: they add ``pull`` · (w - anchor) + shift to the gradient at w.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from heliograph.bus.contract.resources.base import Scalar

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
Arrays: TypeAlias = Mapping[str, Array]

@dataclass(frozen=True)
class Correction:
    """What is added to the gradient of each weight, in one round.

    Attributes:
        pull: factor of the distance from the anchor; 0 for none.
        anchor: weights by name; empty where nothing pulls.
        shift: what is added to a weight's gradient as it is, by name; of a weight that it lacks, nothing.
        first: weights that alone move in the first ``first_steps`` steps of the round, and never after them; empty
            where all weights move in every step.
    """

    pull: float = 0.0
    anchor: Arrays = field(default_factory=dict)
    shift: Arrays = field(default_factory=dict)
    first: frozenset[str] = frozenset()
    first_steps: int = 0

    def rests(self, name: str, step: int) -> bool:
        """Return whether a weight does not move in the step of that number, from 1."""
        return bool(self.first) and (name in self.first) != (step <= self.first_steps)


@dataclass(frozen=True)
class OwnModel:
    """A model that an edge trains for itself, in a second pass of the round's body.

    Attributes:
        weights: from which it goes on.
        correction: of its gradients.
    """

    weights: Arrays
    correction: Correction


@dataclass(frozen=True)
class Trained:
    """What is known of a round's local training at its end.

    Attributes:
        received: the weights from which it began.
        trained: the weights to which it came.
        moved: names of those that steps of the optimizer have moved.
        steps: steps of the optimizer.
        gradients: by name, the mean of the gradients before their correction; empty unless the term asks for it.
        down, state: as the term got them.
        personal: names of the weights that stay on the edge.
        own: the edge's own model after its pass; None where there was none.
    """

    received: Arrays
    trained: Arrays
    moved: frozenset[str]
    steps: int
    gradients: Arrays
    down: Arrays
    state: Arrays
    personal: frozenset[str] = frozenset()
    own: Arrays | None = None


@dataclass(frozen=True)
class Kept:
    """What a term keeps and sends after a round.

    Attributes:
        state: the edge's own arrays for its next round, by name; valid only if the round counts its update.
        attached: by kind, arrays that travel beside the update, one for each floating-point weight.
    """

    state: Arrays = field(default_factory=dict)
    attached: Mapping[str, Arrays] = field(default_factory=dict)


class LocalTerm(ABC):
    """One term with a job's parameters.

    Attributes:
        needs_gradients: whether ``keep`` gets the mean of the uncorrected gradients.
        keeps_state: whether the edge keeps arrays from round to round.
        corrects: whether a round without a step of an optimizer that the term sees is a mistake.
    """

    needs_gradients: ClassVar[bool] = False
    keeps_state: ClassVar[bool] = False
    corrects: ClassVar[bool] = True

    def __init__(self, parameters: Mapping[str, Scalar]) -> None:
        self.parameters = parameters

    @abstractmethod
    def correction(self, received: Arrays, down: Arrays, state: Arrays) -> Correction:
        """Return the correction of a round.

        Args:
            received: the weights from which it begins.
            down: tensors that the algorithm sent down; empty in its first round.
            state: what the edge has kept; empty before its first counted update.
        """

    def personal(self, names: Collection[str], buffers: Collection[str]) -> frozenset[str]:
        """Return the names of the weights that stay on the edge. Raise Refused where the model has none of them."""
        return frozenset()

    def own_weights(self, state: Arrays) -> Arrays:
        """Return the weights that the edge has kept, which take the place of those that it received."""
        return {}

    def own_model(self, received: Arrays, state: Arrays) -> OwnModel | None:
        """Return the model that the edge trains in a second pass of the round's body; None for no such pass."""
        return None

    def keep(self, trained: Trained) -> Kept:
        """Return what the edge keeps, and sends beside its update."""
        return Kept()

    def number(self, name: str, default: float) -> float:
        """Return a parameter that is a number."""
        value = self.parameters.get(name, default)
        return float(value) if isinstance(value, (int, float)) else default


def kind_of(kind: str, arrays: Arrays) -> dict[str, Array]:
    """Return the arrays of one kind, ``<kind>:w``, by the names of the weights that they belong to."""
    prefix = f"{kind}:"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
