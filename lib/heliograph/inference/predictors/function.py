"""A function of a batch as a model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from heliograph.inference.predictors.outputs import ModelOutput, Reading
from heliograph.inference.predictors.predictor import Predictor, Prepared
from heliograph.inference.predictors.samples import columns_in, finite, sample_array


class FunctionPredictor(Predictor):
    """A function that takes a batch (samples × ...), a list of texts or a list of rows, and returns rows or labels."""

    def __init__(self, model: Any, reading: Reading) -> None:
        super().__init__(reading)
        self._model = model

    def prepare(self, x: Any) -> Prepared:
        if isinstance(x, str):
            return Prepared(x, str)
        if (row := columns_in(x)) is not None:
            return Prepared(row, tuple(row))
        array = finite(sample_array(x))
        kind: Hashable = (array.dtype.str, array.shape)
        return Prepared(array, kind)

    def _outputs(self, samples: Sequence[Prepared]) -> ModelOutput:
        batch = [each.value for each in samples]
        return ModelOutput(self._model(np.stack(batch) if isinstance(batch[0], np.ndarray) else batch))
