"""A PyTorch module as a model: samples become its type on its device, and the end of its graph tells what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.inference.predictors.outputs import ModelOutput, Reading, as_array
from heliograph.inference.predictors.predictor import Predictor, Prepared
from heliograph.inference.predictors.samples import batch_axis, numbers

_VIEWS = ("Squeeze", "Unsqueeze", "View", "UnsafeView", "Reshape", "Alias", "Slice", "Select", "ToCopy", "Clone")
"""Operations that change nothing but the shape or the type of numbers."""


class TorchPredictor(Predictor):
    """A ``torch.nn.Module``, put into evaluation mode."""

    def __init__(self, model: Any, reading: Reading) -> None:
        super().__init__(reading)
        model.eval()
        self._model = model
        self._end: list[Any] = []
        """What the end of the graph tells, once it has been looked at."""

    def prepare(self, x: Any) -> Prepared:
        array = numbers(x)
        if self._takes_indices():
            whole = array if array.dtype.kind in "iub" else array.astype(np.int64)
            if array.dtype.kind == "f" and not (whole == array).all():
                raise Refused("invalid", field="input", expected="whole numbers, which the model's embedding takes",
                              got=f"an array of {array.dtype}")  # fmt: skip
            array = whole.astype(np.int64)
        elif array.dtype.kind != "f" or array.dtype != np.float32:
            array = array.astype(np.float64 if self._dtype_name() == "float64" else np.float32)
        return Prepared(array, (array.dtype.str, array.shape))

    def example(self) -> Prepared | None:
        first = self._first_layer()
        kind = _kind(first)
        if kind == "Linear":
            return self.prepare(np.zeros(first.in_features, np.float32))
        return self.prepare(np.zeros(1, np.int64)) if kind == "Embedding" else None

    def _outputs(self, samples: Sequence[Prepared]) -> ModelOutput:
        stacked = np.stack([each.value for each in samples])
        rows = self._run(stacked)
        return ModelOutput(rows, lambda: self._meaning(stacked[:1]), soften=True)

    def _meaning(self, sample: Any) -> Any:
        if not self._end:
            self._end.append(self._look_at_end(sample))
        return self._end[0]

    def _run(self, batch: Any) -> Any:
        import torch

        if self._model.training:  # a script that trains the model meanwhile
            self._model.eval()
        with torch.no_grad():
            try:
                found = self._model(self._tensor(batch))
            except (RuntimeError, ValueError, IndexError) as error:
                if batch.ndim > 2 and batch.shape[1] == 1:
                    raise batch_axis(error, batch.shape[1:]) from error
                raise
        return as_array(found)

    def _look_at_end(self, sample: Any) -> Any:
        """Return ``probabilities`` where the model ends with a sigmoid or a softmax; None where it does not tell."""
        import torch

        with torch.enable_grad():
            tensor = self._tensor(sample)
            if tensor.is_floating_point():
                tensor.requires_grad_()
            try:
                found = self._model(tensor)
                step = (self._reading.scores(found) if self._reading.scores is not None else found).grad_fn
            except Exception:  # a model that cannot be differentiated tells nothing
                return None
        while step is not None and step.name().startswith(_VIEWS) and step.next_functions:
            step = step.next_functions[0][0]
        name = step.name() if step is not None else ""
        return "probabilities" if name.startswith(("Sigmoid", "Softmax")) else None

    def _tensor(self, batch: Any) -> Any:
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device())
        dtype = self._dtype()
        return tensor.to(dtype) if tensor.is_floating_point() and tensor.dtype != dtype else tensor

    def _dtype(self) -> Any:
        import torch

        return next((each.dtype for each in self._tensors() if each.is_floating_point()), torch.float32)

    def _dtype_name(self) -> str:
        return str(self._dtype()).removeprefix("torch.")

    def _device(self) -> Any:
        return next((each.device for each in self._tensors()), "cpu")

    def _tensors(self) -> Any:
        yield from self._model.parameters()
        yield from self._model.buffers()

    def _first_layer(self) -> Any:
        """Return the first layer with weights, in the order in which the model declares them."""
        return next((each for each in self._model.modules() if next(each.parameters(recurse=False), None) is not None),
                    None)  # fmt: skip

    def _takes_indices(self) -> bool:
        return _kind(self._first_layer()).startswith("Embedding")


def _kind(layer: Any) -> str:
    return str(getattr(layer, "original_name", type(layer).__name__))  # a scripted layer keeps its name there
