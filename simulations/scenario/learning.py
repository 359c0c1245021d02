"""The training of a scenario's edges: the workload of a virtual cluster, and of the training script on a real one."""

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
    from heliograph.simulations.scenario.samples import Array, SampleSet

RESIDENT = 45
"""MB of a worker with Python and NumPy alone."""
PAGED = 10.0
"""Factor on the duration of training that does not fit into an edge's memory."""
START = 0.2
"""Seconds of any piece of work before its first sample, at speed 1."""


class SampleSource(Protocol):
    """A source of samples; see ``Samples``."""

    def of(self, edge: str) -> SampleSet: ...
    def number_of(self, edge: str) -> int: ...
    def held_out(self) -> SampleSet: ...


class Learning:
    """A ``Workload`` that trains each edge on its samples, disturbed by the faults that are set.

    Args:
        seconds_per_sample: duration of one pass over one sample at speed 1.
        seed: seed of the initial weights and of the order of samples.
        memory: memory in MB of each edge with a limit.
    """

    def __init__(
        self, samples: SampleSource, seconds_per_sample: float, seed: int, memory: Mapping[str, int] | None = None
    ) -> None:
        self._samples = samples
        self._memory = memory or {}
        self._cost = seconds_per_sample
        self._seed = seed
        self._held_out: SampleSet | None = None
        self._behaviours: dict[str, tuple[Behaviour, float]] = {}
        self._slowdowns: dict[str, float] = {}

    def set_behaviour(self, edge: str, behaviour: Behaviour | None, amount: float = 0.0) -> None:
        """Corrupt an edge's updates from now on; None makes it honest again."""
        if behaviour is None:
            self._behaviours.pop(edge, None)
        else:
            self._behaviours[edge] = behaviour, amount

    def set_slowdown(self, edge: str, factor: float) -> None:
        """Make an edge's training take ``factor`` times as long from now on."""
        self._slowdowns[edge] = factor

    def initial(self, edge: str, parameters: Mapping[str, Scalar]) -> Computed:
        setting = _setting(parameters)
        weights = network.initial_weights(FEATURES, setting.hidden, CLASSES, self._seed_of("initial"))
        return Computed(weights, self._samples.number_of(edge), {}, START)

    def train(self, edge: str, round: int, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        setting = _setting(parameters)
        behaviour, amount = self._behaviours.get(edge, (None, 0.0))
        x, y = self._samples.of(edge)
        number = len(y)
        if behaviour in ("label-flip", "outweigh"):
            y = byzantine.flip_labels(y, CLASSES)
        update, loss = network.train(
            weights, x, y, epochs=setting.local_epochs, batch=setting.batch_size, rate=setting.learning_rate,
            seed=self._seed_of(f"{edge}/{round}"),
        )  # fmt: skip
        seconds = START + number * setting.local_epochs * self._cost
        if 0 < self._memory.get(edge, 0) < RESIDENT + _megabytes(weights, x, setting):
            seconds *= PAGED
        if behaviour is not None:
            update = byzantine.corrupt(behaviour, amount, weights, update)
        claimed = {"huge-num-samples": byzantine.HUGE, "outweigh": byzantine.PLAUSIBLE}.get(behaviour or "", number)
        return Computed(update, claimed, {"loss": min(loss, 1e6)}, seconds * self._slowdowns.get(edge, 1.0))

    def evaluate(self, weights: Arrays, parameters: Mapping[str, Scalar]) -> Computed:
        if self._held_out is None:
            self._held_out = self._samples.held_out()
        x, y = self._held_out
        return Computed({}, len(y), network.evaluate(weights, x, y), START)

    def _seed_of(self, purpose: str) -> int:
        return seeded(f"learning/{self._seed}/{purpose}").getrandbits(63)


def _megabytes(weights: Arrays, x: Array, setting: Training) -> float:
    """Return the MB of weights, update and gradients, of the samples, and of a batch's activations in each layer."""
    model = 3 * sum(array.nbytes for array in weights.values())
    return float(model + x.nbytes + 4 * setting.batch_size * (FEATURES + 2 * setting.hidden + CLASSES)) / 1e6


def _setting(parameters: Mapping[str, Scalar]) -> Training:
    """Return the training that a job's parameters describe; the algorithm's own parameters are skipped."""
    return Training.model_validate({name: parameters[name] for name in Training.model_fields if name in parameters})
