"""One edge's part in the rounds of a job: what its algorithm measures in the local training, and adds to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.bus.contract.weights_file import CONSTANT, beside
from heliograph.core.errors import Refused
from heliograph.frameworks import buffers_of
from heliograph.frameworks.steps import GivenSteps, StepsTaken, steps_of
from heliograph.local_terms import Correction, term_of
from heliograph.local_terms import Trained as TrainedHere
from heliograph.session import Trained, Work

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays, TensorFile
    from heliograph.frameworks import ModelAdapter
    from heliograph.frameworks.arrays import Array

RECEIVED_LOSS, LOCAL_STEPS, LOCAL_MOMENTUM = "received_loss", "local_steps", "local_momentum"
"""Metrics of an update that algorithms need."""


class LocalTraining:
    """The local training of one model, round after round.

    Args:
        loss: measures the mean loss of the present model over this edge's samples; None where the script has no such
            function.
    """

    def __init__(self, adapter: ModelAdapter, num_samples: int, loss: Callable[[], Any] | None) -> None:
        self._adapter = adapter
        self._num_samples = num_samples
        self._loss = loss
        self._steps = steps_of(adapter)
        self._follows = False

    def begin(self, work: Work, down: Arrays) -> dict[str, float]:
        """Begin a round, whose weights are loaded. Return what was measured before its training."""
        self._work, self._down = work, down
        self._term = term_of(work.local_term, work.parameters)
        if work.local_term and self._term is None:
            raise Refused("unknown-term", field="local_term", expected="a term that this edge's release knows",
                          got=work.local_term, hint="Update heliograph on this edge.")  # fmt: skip
        self._state = _copied(work.state)
        self._common: tuple[dict[str, Array], StepsTaken] | None = None
        self._follows = self._term is not None or LOCAL_STEPS in work.needs
        correction: Correction | None = None
        if self._term is not None:
            received = self._adapter.get()
            self._personal = self._term.personal(received.keys(), buffers_of(self._adapter))
            if own := self._term.own_weights(self._state):
                received |= {name: own[name] for name in self._personal & own.keys()}
                self._adapter.set(received)
            self._received = received
            correction = self._term.correction(received, down, self._state)
        found: dict[str, float] = {}
        if RECEIVED_LOSS in work.needs and self._loss is not None:
            found[RECEIVED_LOSS] = _number(self._loss())
        if self._follows:
            self._steps.begin(correction, averages=self._term is not None and self._term.needs_gradients)
        return found

    def begin_own(self) -> bool:
        """Begin the pass in which the edge trains its own model, after that of the common one. Return whether the
        algorithm has such a pass."""
        own = self._term.own_model(self._received, self._state) if self._term is not None else None
        if own is None:
            return False
        self._common = self._adapter.get(), self._steps.end()
        self._adapter.set(own.weights)
        self._steps.begin(own.correction, averages=False)
        return True

    def end(self, metrics: Mapping[str, float], attached: Arrays) -> Trained:
        """End a round. Return its update.

        Raises:
            Refused: if the algorithm corrects gradients, and no step of an optimizer has met it.
        """
        measured, buffers = dict(metrics), buffers_of(self._adapter)
        arrays, own = self._adapter.get(), None
        taken = self._steps.end() if self._follows else StepsTaken()
        if self._common is not None:
            if not taken.count:
                raise self._never_ran()
            own, (arrays, taken) = arrays, self._common
        if LOCAL_STEPS in self._work.needs and taken.count:
            measured = {LOCAL_STEPS: taken.count, LOCAL_MOMENTUM: taken.momentum} | measured
        if self._term is None:
            return Trained({**arrays, **attached}, self._num_samples, measured, buffers)
        if self._term.corrects and not taken.count:
            raise self._never_ran()
        kept = self._term.keep(
            TrainedHere(
                self._received, arrays, taken.weights & _floats(arrays), taken.count, taken.gradients, self._down,
                self._state, self._personal, own,
            )
        )  # fmt: skip
        travelling = {name: array for name, array in arrays.items() if name not in self._personal}
        state = {name: np.asarray(array) for name, array in kept.state.items()}
        more = {**attached, **_beside_all(kept.attached, arrays)}
        return Trained({**travelling, **more}, self._num_samples, measured, buffers, state, self._personal)

    def correct(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Return a step's gradients with what the algorithm adds; count the step."""
        if not self._follows:
            return dict(gradients)
        return self._given("correct").take(gradients, self._adapter.get())

    def correct_fit(self, learning_rate: float, before: Mapping[str, Array]) -> None:
        """Correct the weights after a step that was taken inside a fit: they become what they would be, had the
        algorithm's term been in the step. Count the step.

        Args:
            before: the weights before the fit.
        """
        if not self._follows:
            return
        given, after = self._given("correct_fit"), self._adapter.get()
        gradients = {name: (before[name] - after[name]) / learning_rate for name in sorted(_floats(after))}
        corrected = given.take(gradients, before)
        moved = {name: before[name] - learning_rate * gradient for name, gradient in corrected.items()}
        self._adapter.set({**after, **{name: array.astype(after[name].dtype) for name, array in moved.items()}})

    def weights(self) -> dict[str, Array]:
        """Return a copy of the model's weights."""
        return self._adapter.get()

    def _given(self, call: str) -> GivenSteps:
        if not isinstance(self._steps, GivenSteps):
            raise Refused("bad-argument", field=call, expected="an optimizer's own steps: they are found and corrected",
                          got="a call in the loop of such a model", hint=f"Leave {call}() out.")  # fmt: skip
        return self._steps

    def _never_ran(self) -> Refused:
        hint = _OF_OPTIMIZERS if not isinstance(self._steps, GivenSteps) else _BY_HAND
        expected = f"steps of an optimizer: {self._work.local_term} adds a term to their gradients"
        return Refused("term-never-ran", field="rounds", expected=expected, got="a round without one", hint=hint)


_OF_OPTIMIZERS = (
    "Train with an optimizer of the framework that moves this model's parameters; compile a Keras model before the "
    "loop, and train it with fit or train_on_batch."
)
_BY_HAND = (
    "Hand each step's gradients to r.correct(gradients) and use what it returns; put a fit that hides them into "
    "'with r.correct_fit(learning_rate):'."
)


def _floats(arrays: Arrays) -> frozenset[str]:
    """Return the names of the arrays that training may change."""
    floats = (name for name, array in arrays.items() if array.dtype.kind == "f")
    return frozenset(name for name in floats if not name.startswith(CONSTANT))


def _beside_all(attached: Mapping[str, Arrays], arrays: Arrays) -> dict[str, Array]:
    """Return what travels beside each floating-point weight; zeros where the term has nothing for one."""
    return {
        beside(kind, name): np.asarray(of_kind.get(name, np.zeros_like(arrays[name])), arrays[name].dtype)
        for kind, of_kind in attached.items()
        for name in sorted(_floats(arrays))
    }


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise Refused("bad-argument", field="loss", expected="a function that returns a finite number", got=value)
    return number


def _copied(weights: TensorFile | None) -> Arrays:
    if weights is None:
        return {}
    with weights as file:
        return {name: array.copy() for name, array in file.arrays().items()}
