"""A Keras model as a model: its last layer's activation and its loss tell what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heliograph.inference.predictors.outputs import Meaning, ModelOutput, Reading, as_array
from heliograph.inference.predictors.predictor import Predictor, Prepared
from heliograph.inference.predictors.samples import batch_axis, numbers

_ACTIVATIONS: dict[str, Meaning] = {"sigmoid": "probabilities", "softmax": "probabilities"}
_REGRESSIONS = ("mse", "mae", "mean_squared", "mean_absolute", "huber", "log_cosh", "meansquared", "meanabsolute")
"""Beginnings of the losses of regressions, as text or as a class."""


class KerasPredictor(Predictor):
    """A Keras 3 model of any backend."""

    def __init__(self, model: Any, reading: Reading) -> None:
        super().__init__(reading)
        self._model = model

    def prepare(self, x: Any) -> Prepared:
        if isinstance(x, str):  # a model that begins with a text layer
            return Prepared(x, str)
        array = numbers(x)
        if array.dtype.kind == "f" and array.dtype != np.float32:
            array = array.astype(np.float32)  # Keras makes the layers' own type of it
        return Prepared(array, (array.dtype.str, array.shape))

    def example(self) -> Prepared | None:
        inputs: list[Any] = getattr(self._model, "inputs", None) or []
        if len(inputs) != 1 or None in inputs[0].shape[1:] or "string" in str(inputs[0].dtype):
            return None
        dtype = np.float32 if "float" in str(inputs[0].dtype) else np.int64
        return self.prepare(np.zeros(inputs[0].shape[1:], dtype))

    def _outputs(self, samples: Sequence[Prepared]) -> ModelOutput:
        batch = [each.value for each in samples]
        first = batch[0]
        try:
            found = self._model(np.stack(batch) if isinstance(first, np.ndarray) else np.array(batch), training=False)
        except (RuntimeError, ValueError) as error:
            if isinstance(first, np.ndarray) and first.ndim > 1 and first.shape[0] == 1:
                raise batch_axis(error, first.shape) from error
            raise
        return ModelOutput(_plain(found), self._meaning, soften=True)

    def _meaning(self) -> Meaning | None:
        if self._reading.scores is not None:
            return None  # the user's hook chose another part of the model
        layers = getattr(self._model, "layers", None) or [None]
        activation = getattr(getattr(layers[-1], "activation", None), "__name__", type(layers[-1]).__name__.lower())
        if activation in _ACTIVATIONS:
            return _ACTIVATIONS[activation]
        loss = getattr(self._model, "loss", None)
        if getattr(loss, "from_logits", False):
            return "logits"
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", None) or type(loss).__name__
        return "values" if str(name).lower().startswith(_REGRESSIONS) else None


def _plain(found: Any) -> Any:
    """Return tensors as arrays, also inside a mapping or a list."""
    if isinstance(found, dict):
        return {name: _plain(each) for name, each in found.items()}
    if isinstance(found, (list, tuple)):
        return tuple(_plain(each) for each in found)
    return as_array(found)
