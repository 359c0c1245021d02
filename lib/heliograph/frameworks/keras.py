"""The adapter for a Keras 3 model (``keras`` or ``tf.keras``) on any backend; variable paths name the weights."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check_fit

if TYPE_CHECKING:
    from heliograph.frameworks.keras_steps import KerasSteps

_QUANTISED = ("kernel", "embeddings", "_kernel", "quantized_kernel")
"""Ends of the paths of variables that ``quantize`` turns into integers."""


class KerasModel:
    """A built Keras model, assigned in place: a compiled train step and the optimizer stay valid.

    Metrics, optimizer slots and the seeds of random layers are not weights and do not travel.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def get(self) -> dict[str, Array]:
        variables = self._variables().items()
        # numpy() returns a copy already
        return {name: np.asarray(variable.numpy(), _wire_dtype(variable)) for name, variable in variables}

    def set(self, arrays: Mapping[str, Array]) -> None:
        variables = self._variables()
        own = {name: (tuple(variable.shape), _wire_dtype(variable)) for name, variable in variables.items()}
        check_fit(own, arrays)
        for name, variable in variables.items():
            # copy: a backend may keep a reference to the memory, and the mapped file behind it is closed soon
            variable.assign(np.array(arrays[name], _wire_dtype(variable)))

    def buffers(self) -> frozenset[str]:
        """Return the names of variables made with ``trainable=False``: not those of a layer that is frozen."""
        made = {
            id(variable)
            for layer in self._model._flatten_layers()
            # non_trainable_variables has frozen kernels, too
            for variable in layer._non_trainable_variables
        }
        return frozenset(name for name, variable in self._variables().items() if id(variable) in made)

    def steps(self) -> KerasSteps:
        """Return the steps of the optimizer that the model was compiled with."""
        from heliograph.frameworks.keras_steps import KerasSteps

        return KerasSteps(self._model, self._trained)

    def _trained(self) -> dict[str, Any]:
        trained = {id(variable) for variable in self._model.trainable_variables}
        return {name: variable for name, variable in self._variables().items() if id(variable) in trained}

    def _variables(self) -> dict[str, Any]:
        if not self._model.built or not self._model.weights:
            raise Refused(
                "bad-model",
                field="model",
                expected="a Keras model with weights",
                got="one not built yet",
                hint="Start it with keras.Input(shape), or call it on one batch before the first round.",
            )
        weights = self._model.weights
        for weight in weights:
            if str(weight.dtype).startswith(("int4", "int8", "uint4", "uint8")) and weight.path.endswith(_QUANTISED):
                raise Refused("bad-model", field=weight.path, expected="weights that training changes",
                              got="quantised ones", hint="Train the float model in the job. Quantise the global model "
                              "afterwards: heliograph.load(model, file), then model.quantize(...).")  # fmt: skip
        return dict(zip(unique_names([weight.path for weight in weights]), weights, strict=True))


def unique_names(paths: list[str]) -> list[str]:
    """Return names that are the same in every process that builds the same model, in the order of ``paths``.

    Keras numbers layers by a counter of the process: the second ``Dense`` that a process makes is ``dense_1`` in any
    model. This function renumbers each part by its first appearance among its siblings.
    """
    seen: dict[str, dict[str, str]] = {}
    names: list[str] = []
    for path in paths:
        name = ""
        for part in path.split("/"):
            siblings = seen.setdefault(name, {})
            if part not in siblings:
                stem = re.sub(r"(_\d+)+$", "", part) or part
                siblings[part] = _unused(stem, "_", siblings.values())
            name = f"{name}/{siblings[part]}" if name else siblings[part]
        names.append(_unused(name, ":", names))  # layers of a subclassed model may share a name
    return names


def _unused(name: str, mark: str, taken: Container[str]) -> str:
    number = 0
    tried = name
    while tried in taken:
        number += 1
        tried = f"{name}{mark}{number}"
    return tried


def _wire_dtype(variable: Any) -> np.dtype[Any]:
    """Return the NumPy dtype of a variable in an update: its own, or float32 for floats that NumPy lacks."""
    name = str(variable.dtype)
    return np.dtype("float32" if name.startswith(("bfloat", "float8")) else name)
