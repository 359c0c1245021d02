"""The steps of a Keras model's optimizer: its ``apply`` is wrapped, so that ``fit`` and own loops go through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.frameworks.steps import StepsTaken
from heliograph.local_terms.base import Correction

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


class KerasSteps:
    """Steps of the optimizer that a model was compiled with.

    ``fit`` traces its step once. So what is added lies in variables, which each round assigns anew.

    Args:
        model: the model.
        variables: returns its trainable variables by their names in an update.
    """

    def __init__(self, model: Any, variables: Callable[[], Mapping[str, Any]]) -> None:
        self._model = model
        self._variables = variables
        self._wrapped: Any = None
        """The optimizer whose ``apply`` is wrapped."""
        self._shift: dict[str, Any] = {}
        self._anchor: dict[str, Any] = {}
        self._sums: dict[str, Any] = {}
        self._pull: Any = None
        self._first: frozenset[str] = frozenset()
        self._first_until: Any = None
        """The optimizer's iteration at which other weights begin to move."""
        self._active = False
        self._began = 0

    def begin(self, correction: Correction | None, *, averages: bool) -> None:
        optimizer = _inner(getattr(self._model, "optimizer", None))
        self._active = correction is not None or averages
        if optimizer is None:
            return
        if self._active or optimizer is self._wrapped:
            self._assign(correction or Correction(), int(optimizer.iterations.numpy()))
        if self._active and optimizer is not self._wrapped:
            self._wrap(optimizer)
        self._began = int(optimizer.iterations.numpy())

    def end(self) -> StepsTaken:
        optimizer = _inner(getattr(self._model, "optimizer", None))
        if optimizer is None or (self._active and optimizer is not self._wrapped):
            return StepsTaken()  # compiled again within the round: what was added is lost
        count = int(optimizer.iterations.numpy()) - self._began
        variables = self._variables()
        sums = self._sums if self._active and count > 0 else {}
        gradients = {name: np.asarray(total.numpy()) / count for name, total in sums.items()}
        momentum = float(optimizer.momentum) if type(optimizer).__name__ == "SGD" else 0.0
        return StepsTaken(count, momentum, frozenset(variables) if count > 0 else frozenset(), gradients)

    def _assign(self, correction: Correction, iterations: int) -> None:
        """Write a round's correction into the variables that the wrapped step reads."""
        import keras

        variables = self._variables()
        if self._pull is None:
            self._pull = keras.Variable(0.0, trainable=False, dtype="float32")
            self._first_until = keras.Variable(0, trainable=False, dtype="int32")
        self._pull.assign(correction.pull)
        self._first_until.assign(iterations + correction.first_steps)
        changed, self._first = self._first != correction.first, correction.first
        for name, variable in variables.items():
            zeros = np.zeros(tuple(variable.shape), "float32")
            given: Sequence[tuple[dict[str, Any], Mapping[str, Any]]]
            given = ((self._anchor, correction.anchor), (self._shift, correction.shift), (self._sums, {}))
            for held, arrays in given:
                values = np.asarray(arrays.get(name, zeros), "float32")
                if name in held:
                    held[name].assign(values)
                else:
                    held[name] = keras.Variable(values, trainable=False, dtype="float32")
        if (changed or keras.backend.backend() == "jax") and hasattr(self._model, "make_train_function"):
            self._model.train_function = None  # JAX keeps the values of a trace: let it trace again

    def _wrap(self, optimizer: Any) -> None:
        from keras import ops

        original = optimizer.apply
        names = {variable.path: name for name, variable in self._variables().items()}

        def apply(grads: Sequence[Any], trainable_variables: Any = None) -> Any:
            variables = optimizer._trainable_variables if trainable_variables is None else list(trainable_variables)
            corrected = []
            for gradient, variable in zip(grads, variables, strict=True):
                name = names.get(variable.path)
                if gradient is None or name is None:
                    corrected.append(gradient)
                    continue
                wide = ops.cast(ops.convert_to_tensor(gradient), "float32")
                self._sums[name].assign_add(wide)
                away = ops.cast(variable.value, "float32") - self._anchor[name].value
                added = wide + self._pull.value * away + self._shift[name].value
                corrected.append(ops.cast(added, variable.dtype))
            if not self._first:
                return original(corrected, trainable_variables)
            phase_one = ops.cast(optimizer.iterations.value, "int32") < self._first_until.value
            before = [ops.copy(variable.value) for variable in variables]
            done = original(corrected, trainable_variables)
            for variable, value in zip(variables, before, strict=True):
                moves = phase_one if names.get(variable.path) in self._first else ops.logical_not(phase_one)
                variable.assign(ops.where(moves, variable.value, value))  # momentum and decay may have moved it
            return done

        optimizer.apply = apply
        self._wrapped = optimizer
        if hasattr(self._model, "make_train_function"):
            self._model.train_function = None  # one that was traced before knows nothing of the wrapping


def _inner(optimizer: Any) -> Any:
    """Return the optimizer within one that scales the loss: only there gradients have their own size."""
    return getattr(optimizer, "inner_optimizer", optimizer)
