"""What the edges of a scenario compute: the workload of a simulated cluster, and of the real one's training script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.world import seeded
from heliograph.simulations.scenario import byzantine
from heliograph.simulations.scenario import neural_network as network
from heliograph.simulations.scenario.document import Behaviour, Training
from heliograph.simulations.scenario.samples import CLASSES, FEATURES
from heliograph.simulations.virtual.workload import Computed

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays
    from heliograph.simulations.scenario.samples import Array, Set

RESIDENT = 45
"""MB that a worker takes with Python and NumPy alone."""
PAGED = 10.0
"""How many times as long training takes where it does not fit into an edge's memory."""
START = 0.2
"""Seconds that any piece of work takes on a machine of speed 1, before its first sample."""


class Source(Protocol):
    """Where samples come from: see ``Samples``."""

    def of(self, edge: str) -> Set: ...
    def number_of(self, edge: str) -> int: ...
    def held_out(self) -> Set: ...


class Learning:
    """A ``Workload``: an edge's samples, its training, and what is wrong with the one or the other.

    Args:
        seconds_per_sample: what one pass over one sample takes on a machine of speed 1.
        seed: of the first weights and of the order of training.
        memory: MB of each edge that has a limit.
    """

    def __init__(
        self, samples: Source, seconds_per_sample: float, seed: int, memory: Mapping[str, int] | None = None
    ) -> None:
        self._samples = samples
        self._memory = memory or {}
        self._cost = seconds_per_sample
        self._seed = seed
        self._held_out: Set | None = None
        self._behaviours: dict[str, tuple[Behaviour, float]] = {}
        self._paces: dict[str, float] = {}

    def behave(self, edge: str, behaviour: Behaviour | None, amount: float = 0.0) -> None:
        """From now on an edge spoils its updates; None: no longer."""
        if behaviour is None:
            self._behaviours.pop(edge, None)
        else:
            self._behaviours[edge] = behaviour, amount

    def pace(self, edge: str, times: float) -> None:
        """From now on an edge's work takes so many times as long as its speed says."""
        self._paces[edge] = times

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        setting = _setting(parameters)
        weights = network.initial(FEATURES, setting.hidden, CLASSES, self._number("initial"))
        return Computed(weights, self._samples.number_of(edge), {}, START)

    def train(self, edge: str, round: int, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        setting = _setting(parameters)
        behaviour, amount = self._behaviours.get(edge, (None, 0.0))
        x, y = self._samples.of(edge)
        number = len(y)
        if behaviour == "label-flip":
            y = byzantine.flipped(y, CLASSES)
        made, loss = network.trained(
            weights, x, y, epochs=setting.local_epochs, batch=setting.batch_size, rate=setting.learning_rate,
            seed=self._number(f"{edge}/{round}"),
        )  # fmt: skip
        seconds = START + number * setting.local_epochs * self._cost
        if 0 < self._memory.get(edge, 0) < RESIDENT + _megabytes(weights, x, setting):
            seconds *= PAGED
        if behaviour is not None:
            made = byzantine.spoilt(behaviour, amount, weights, made)
        claimed = byzantine.HUGE if behaviour == "huge-num-samples" else number
        return Computed(made, claimed, {"loss": min(loss, 1e6)}, seconds * self._paces.get(edge, 1.0))

    def evaluate(self, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        if self._held_out is None:
            self._held_out = self._samples.held_out()
        x, y = self._held_out
        return Computed({}, len(y), network.measured(weights, x, y), START)

    def _number(self, what: str) -> int:
        return seeded(f"learning/{self._seed}/{what}").getrandbits(63)


def _megabytes(weights: Arrays, x: Array, setting: Training) -> float:
    """Weights, the update and a step's gradients; the samples; and what a batch leaves in each layer."""
    model = 3 * sum(array.nbytes for array in weights.values())
    return float(model + x.nbytes + 4 * setting.batch_size * (FEATURES + 2 * setting.hidden + CLASSES)) / 1e6


def _setting(parameters: Mapping[str, Scalar]) -> Training:
    """The training that a job's parameters ask for; the algorithm's own are among them, and pass by."""
    return Training.model_validate({name: parameters[name] for name in Training.model_fields if name in parameters})
