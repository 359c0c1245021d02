"""A torch.nn.Module: the tensors of its state dict, parameters and buffers, under the names the state dict has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check


class TorchModel:
    """A module on any device. Optimizers and other references to its parameters stay valid.

    Tied tensors come once under each of their names, as in a checkpoint. Extra state (``get_extra_state``) can be any
    object and stays where it is.
    """

    def __init__(self, module: Any) -> None:
        # torch.compile wraps the module and prefixes its names; edges that compile and edges that do not must agree
        self._module = getattr(module, "_orig_mod", module)

    def get(self) -> dict[str, Array]:
        import torch

        return {
            name: tensor.to("cpu", _sent_as(tensor), copy=True, memory_format=torch.contiguous_format).numpy()
            for name, tensor in self._tensors().items()
        }

    def set(self, arrays: Mapping[str, Array]) -> None:
        import torch

        tensors = self._tensors()
        check({name: (tuple(tensor.shape), _numpy_type(tensor)) for name, tensor in tensors.items()}, arrays)
        with torch.no_grad():
            for name, tensor in tensors.items():
                # torch has no read-only tensors, and the arrays are views of a read-only mapped file: one copy first
                tensor.copy_(torch.from_numpy(np.array(arrays[name], order="C")))

    def _tensors(self) -> dict[str, Any]:
        import torch

        found = {}
        for name, value in self._module.state_dict().items():
            if not isinstance(value, torch.Tensor):
                continue
            if torch.nn.parameter.is_lazy(value) or value.is_meta:
                raise Refused("bad-model", field=name, expected="a tensor with a shape and a value",
                              got="a lazy one" if not value.is_meta else "one on the meta device",
                              hint="Run one batch through the model before its first round.")  # fmt: skip
            found[name] = value.detach()
        return found


def _sent_as(tensor: Any) -> Any:
    """The torch dtype a tensor travels as: its own, or float32 where NumPy has no such float (bfloat16, float8)."""
    import torch

    known = (torch.float64, torch.float32, torch.float16)
    return torch.float32 if tensor.dtype.is_floating_point and tensor.dtype not in known else tensor.dtype


def _numpy_type(tensor: Any) -> np.dtype[Any]:
    import torch

    dtype: np.dtype[Any] = torch.empty(0, dtype=_sent_as(tensor)).numpy().dtype
    return dtype
