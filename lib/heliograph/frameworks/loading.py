"""Write the weights of a safetensors file into a model of any framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.errors import Refused
from heliograph.frameworks import ModelAdapter, adapter_for

Array = np.ndarray[Any, Any]
_NEAR = 0.25
"""Relative distance within which a value counts as the one that was given: the coarsest step of float8."""
_SAMPLE = 65_536
"""Elements of a tensor that are compared, about."""


def load(model: Any, file: str | Path) -> None:
    """Write the weights of a safetensors file, such as ``heliograph run`` leaves, into a model.

        heliograph.load(model, "model.safetensors")

    Args:
        model: a model as FederatedLearning takes it, built as it was for training: a Keras model is built, a
            scikit-learn estimator fitted once, on any rows with all classes.
        file: the file's path.

    Raises:
        Refused: if there is no such file, it is no safetensors file, or its weights do not fit the model.
    """
    path = Path(file)
    try:
        weights = TensorFile(path)
    except OSError as error:
        raise Refused("no-file", field="file", expected="a safetensors file", got=f"{path}: {error.strerror}",
                      hint="heliograph models download NAME writes a registered model's.") from None  # fmt: skip
    Loader(adapter_for(model)).load(weights)


class Loader:
    """Loads weights into one model, and proves until it has seen it once that the model then has them."""

    def __init__(self, adapter: ModelAdapter) -> None:
        self._adapter = adapter
        self._proven = False

    def load(self, weights: TensorFile) -> None:
        """Write the weights into the model, and close their file.

        Raise Refused if they do not fit the model, or it has other ones afterwards.
        """
        with weights as file:
            arrays = file.arrays()
            for name, tensor in file.tensors.items():
                if tensor.dtype == "BF16":
                    arrays[name] = bfloat16.widen(arrays[name])
            if self._proven:
                self._adapter.set(arrays)
                return
            before = self._present()
            self._adapter.set(arrays)
            self._proven = _took(before, _samples(arrays), self._present())

    def _present(self) -> dict[str, Array]:
        """Return a sample of each tensor of the model."""
        return _samples(getattr(self._adapter, "written", self._adapter.get)())


def _samples(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return evenly spaced elements of each array as float64: whole copies of a large model would cost its memory."""
    found = {}
    for name, array in arrays.items():
        flat = array.reshape(-1)
        found[name] = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
    return found


def _took(before: Mapping[str, Array], given: Mapping[str, Array], after: Mapping[str, Array]) -> bool:
    """Return whether a value that was given and was not there before is there now. Raise Refused where one is not."""
    proven = False
    for name, values in given.items():
        if name not in before or name not in after or _near(before[name], values):
            continue
        if not _near(after[name], values):
            raise Refused("bad-model", field=name, expected="a model whose get() returns what set() wrote",
                          got="other values", hint="get() reads copies, or a property computes them: such a model "
                          "trains and is measured without the global weights. Pass the object that holds them.",
                          )  # fmt: skip
        proven = True
    return proven


def _near(one: Array, other: Array) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=_NEAR, atol=1e-6, equal_nan=True)
