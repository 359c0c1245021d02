"""A Keras 3 model (``keras`` or ``tf.keras``), on any backend: its weights under the paths of their variables."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check


class KerasModel:
    """A built model. Its variables are assigned in place: a compiled train step and the optimizer stay valid.

    Metrics, optimizer slots and the seeds of random layers are not weights, and stay where they are.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def get(self) -> dict[str, Array]:
        variables = self._variables().items()
        # numpy() gives a copy already
        return {name: np.asarray(variable.numpy(), _sent_as(variable)) for name, variable in variables}

    def set(self, arrays: Mapping[str, Array]) -> None:
        variables = self._variables()
        check({name: (tuple(variable.shape), _sent_as(variable)) for name, variable in variables.items()}, arrays)
        for name, variable in variables.items():
            # a backend may keep the very memory it is given, and this is a mapped file that is closed soon: copy
            variable.assign(np.array(arrays[name], _sent_as(variable)))

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
        return dict(zip(unique_names([weight.path for weight in weights]), weights, strict=True))


def unique_names(paths: list[str]) -> list[str]:
    """Names that are the same in every process that builds the same model, in the order of ``paths``.

    Keras numbers layers by a counter of the process: the second ``Dense`` that a process makes is ``dense_1``,
    whichever model it is in. Each part is numbered again here, by its first appearance beside its siblings.
    """
    seen: dict[str, dict[str, str]] = {}
    names: list[str] = []
    for path in paths:
        name = ""
        for part in path.split("/"):
            siblings = seen.setdefault(name, {})
            if part not in siblings:
                stem = re.sub(r"(_\d+)+$", "", part) or part
                siblings[part] = _free(stem, "_", siblings.values())
            name = f"{name}/{siblings[part]}" if name else siblings[part]
        names.append(_free(name, ":", names))  # layers of a subclassed model may bear the same name
    return names


def _free(name: str, mark: str, taken: Container[str]) -> str:
    number = 0
    tried = name
    while tried in taken:
        number += 1
        tried = f"{name}{mark}{number}"
    return tried


def _sent_as(variable: Any) -> np.dtype[Any]:
    """The NumPy dtype a variable travels as: its own, or float32 where NumPy has no such float (bfloat16, float8)."""
    name = str(variable.dtype)
    return np.dtype("float32" if name.startswith(("bfloat", "float8")) else name)
