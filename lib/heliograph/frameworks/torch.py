"""The adapter for a torch.nn.Module: the parameters and buffers of its state dict, under their names there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check_fit


class TorchModel:
    """A module on any device, written in place: optimizers and other references to its parameters stay valid.

    Tied tensors appear under each of their names, as in a checkpoint. Extra state (``get_extra_state``) may be any
    object and does not travel.
    """

    def __init__(self, module: Any) -> None:
        # torch.compile wraps the module and prefixes its names; edges must agree whether or not they compile
        self._module = getattr(module, "_orig_mod", module)

    def get(self) -> dict[str, Array]:
        import torch

        return {
            name: tensor.to("cpu", _wire_dtype(tensor), copy=True, memory_format=torch.contiguous_format).numpy()
            for name, tensor in self._tensors().items()
        }

    def set(self, arrays: Mapping[str, Array]) -> None:
        import torch

        tensors = self._tensors()
        check_fit({name: (tuple(tensor.shape), _numpy_dtype(tensor)) for name, tensor in tensors.items()}, arrays)
        with torch.no_grad():
            for name, tensor in tensors.items():
                # copy first: the arrays are views of a read-only mapped file, and torch has no read-only tensors
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


def _wire_dtype(tensor: Any) -> Any:
    """Return the torch dtype of a tensor in an update: its own, or float32 for floats that NumPy lacks."""
    import torch

    known = (torch.float64, torch.float32, torch.float16)
    return torch.float32 if tensor.dtype.is_floating_point and tensor.dtype not in known else tensor.dtype


def _numpy_dtype(tensor: Any) -> np.dtype[Any]:
    import torch

    dtype: np.dtype[Any] = torch.empty(0, dtype=_wire_dtype(tensor)).numpy().dtype
    return dtype
