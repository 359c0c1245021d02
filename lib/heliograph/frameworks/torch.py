"""The adapters for PyTorch: a torch.nn.Module, a dict of tensors, and a module with adapters of ``peft``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check_fit
from heliograph.frameworks.constants import Constant, check_constants, digest, named

if TYPE_CHECKING:
    from heliograph.frameworks.torch_steps import TorchSteps

_FINGERPRINT = 4096
"""Elements of each frozen tensor that its fingerprint reads."""


class TorchModel:
    """A module on any device, written in place: optimizers and other references to its parameters stay valid.

    Its weights are the parameters and buffers of its state dict, under their names there. Tied tensors appear under
    each of their names, as in a checkpoint. A complex tensor travels as real numbers, with one more dimension of two.
    Extra state (``get_extra_state``) may be any object and does not travel.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def get(self) -> dict[str, Array]:
        return {name: _array_of(name, tensor) for name, tensor in self._tensors().items()} | named(self._constants)

    def set(self, arrays: Mapping[str, Array]) -> None:
        import torch

        arrays = check_constants(self._constants, arrays)
        tensors = self._tensors()
        check_fit({name: _layout(tensor) for name, tensor in tensors.items()}, arrays)
        parts = {name: _writable_part(name, tensor, arrays[name]) for name, tensor in tensors.items()}
        with torch.no_grad():
            for tensor, array in parts.values():
                # copy first: the arrays are views of a read-only mapped file, and torch has no read-only tensors
                values = torch.from_numpy(np.array(array, order="C"))
                tensor.copy_(torch.view_as_complex(values) if tensor.is_complex() else values)

    def buffers(self) -> frozenset[str]:
        """Return the names of the state dict's tensors that are no parameters, frozen ones included."""
        # by identity: a tied parameter has several names, and peft shortens names
        parameters = {id(parameter) for parameter in self._module.parameters()}
        own = {name for name, value in self._named(keep_vars=True).items() if id(value) not in parameters}
        return frozenset(own & self._tensors().keys())

    def steps(self) -> TorchSteps:
        """Return the steps of the optimizers that move the parameters."""
        from heliograph.frameworks.torch_steps import TorchSteps

        return TorchSteps(self._trained)

    def _trained(self) -> dict[str, Any]:
        """Return the tensors that an optimizer may move, by their names."""
        return {name: value for name, value in self._named(keep_vars=True).items() if hasattr(value, "requires_grad")}

    @property
    def _constants(self) -> dict[str, Constant]:
        return {}

    def _named(self, keep_vars: bool = False) -> Mapping[str, Any]:
        """Return the state dict: with ``keep_vars`` the parameters themselves, else detached tensors."""
        found: Mapping[str, Any] = self._module.state_dict(keep_vars=keep_vars)
        # torch.compile wraps a part and prefixes its names; edges must agree whether or not they compile
        return {name.replace("_orig_mod.", ""): value for name, value in found.items()}

    def _tensors(self) -> dict[str, Any]:
        """Return the tensors, detached. Raise Refused for one that cannot be averaged."""
        import torch

        found = {}
        for name, value in self._named().items():
            if isinstance(value, tuple | list) and any(isinstance(each, torch.Tensor) for each in value):
                raise _quantised(name)
            if not isinstance(value, torch.Tensor):
                continue
            _check(name, value)
            found[name] = value.detach()
        return found


class TensorsModel(TorchModel):
    """A dict of tensors, written in place, such as the parameters of a function or a state dict."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__(None)
        for name in tensors:
            if not isinstance(name, str):
                raise Refused("bad-model", field=f"model[{name!r}]", expected="a text as the tensor's name",
                              got=type(name))  # fmt: skip
        self._given = tensors

    def buffers(self) -> frozenset[str]:
        """Return the names of tensors without a gradient where others have one; a dict without any does not tell."""
        trained = {name for name, tensor in self._given.items() if tensor.requires_grad}
        return frozenset(self._given.keys() - trained) if trained else frozenset()

    def _named(self, keep_vars: bool = False) -> Mapping[str, Any]:
        return self._given


class PeftModel(TorchModel):
    """A model of ``peft``: only the adapter's weights (LoRA's, say) travel. The frozen base must be the same at every
    edge: its fingerprint travels as a constant."""

    def _named(self, keep_vars: bool = False) -> Mapping[str, Any]:
        from peft import get_peft_model_state_dict

        active = self._module.active_adapter
        name = active if isinstance(active, str) else active[0]
        # no embedding layers: to find out whether they changed, peft would ask a server
        found: Mapping[str, Any] = get_peft_model_state_dict(
            self._module, self._module.state_dict(keep_vars=keep_vars), name, save_embedding_layers=False
        )
        return found

    @property
    def _constants(self) -> dict[str, Constant]:
        return {"base": self._base}

    @cached_property
    def _base(self) -> Constant:
        import torch

        own = {tensor.data_ptr() for tensor in self._named().values()}
        parts = []
        for name, parameter in self._module.named_parameters():
            if parameter.data_ptr() in own or parameter.is_meta or ".lora_" in name:
                continue
            head = parameter.detach().reshape(-1)[:_FINGERPRINT].to("cpu").contiguous()
            parts.append(f"{name} {tuple(parameter.shape)} {parameter.dtype} ".encode())
            parts.append(head.view(torch.uint8).numpy().tobytes())
        hint = "Load the same checkpoint, in the same dtype, at every edge; a base with random weights needs one seed."
        return digest(b"".join(parts), "another base under the adapter", hint)


def _array_of(name: str, tensor: Any) -> Array:
    import torch

    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    try:
        array: Array = tensor.to(
            "cpu", _wire_dtype(tensor), copy=True, memory_format=torch.contiguous_format
        ).numpy()  # fmt: skip
    except (TypeError, RuntimeError) as error:  # a subclass of tensors, or a dtype, of another package
        raise Refused("bad-model", field=name, expected="a tensor that NumPy can hold", got=f"{type(tensor).__name__} "
                      f"of {tensor.dtype}: {str(error).splitlines()[0]}") from None  # fmt: skip
    return array


def _writable_part(name: str, tensor: Any, array: Array) -> tuple[Any, Array]:
    """Return the part of a tensor that has memory of its own, and the array's part for it: an expanded dimension
    (stride 0) has one element, which shows as many. Raise Refused where the array's elements there differ."""
    part = tuple(
        slice(0, 1) if stride == 0 and length > 1 else slice(None)
        for length, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    if slice(0, 1) not in part:
        return tensor, array
    own = array[part]
    if not np.array_equal(np.broadcast_to(own, array.shape), array, equal_nan=array.dtype.kind == "f"):
        raise Refused("bad-weights", field=name, expected="one value along each expanded dimension", got="several",
                      hint="Register the tensor with .contiguous().")  # fmt: skip
    return tensor[part], own


def _check(name: str, tensor: Any) -> None:
    """Raise Refused for a tensor whose values cannot be read, written or averaged."""
    import torch

    if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta:
        raise Refused("bad-model", field=name, expected="a tensor with a shape and a value",
                      got="a lazy one" if not tensor.is_meta else "one on the meta device",
                      hint="Run one batch through the model before its first round.")  # fmt: skip
    if tensor.layout != torch.strided:
        raise Refused("bad-model", field=name, expected="a dense tensor", got=f"a sparse one ({tensor.layout})",
                      hint="A graph or another constant of this edge's data stays out of the weights with "
                      "register_buffer(name, tensor, persistent=False); weights need .to_dense().")  # fmt: skip
    if tensor.is_quantized:
        raise _quantised(name)
    if name.rpartition(".")[2] in ("min_val", "max_val") and (not tensor.numel() or tensor.isinf().any()):
        raise Refused("bad-model", field=name, expected="an observer that has seen data", got="one that has seen none",
                      hint="Run one batch through the model before its first round, in the evaluation too: observers "
                      "get their shapes and values from it.")  # fmt: skip


def _quantised(name: str) -> Refused:
    return Refused("bad-model", field=name, expected="weights that training changes", got="quantised ones",
                   hint="Train the float model in the job. Quantise the global model afterwards: "
                   "heliograph.load(model, file), then quantise it.")  # fmt: skip


def _wire_dtype(tensor: Any) -> Any:
    """Return the torch dtype of a tensor in an update: its own, or float32 for floats that NumPy lacks."""
    import torch

    known = (torch.float64, torch.float32, torch.float16)
    return torch.float32 if tensor.dtype.is_floating_point and tensor.dtype not in known else tensor.dtype


def _layout(tensor: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype in which a tensor travels."""
    import torch

    empty: Array = torch.empty(0, dtype=_wire_dtype(tensor)).numpy()
    if tensor.is_complex():
        return (*tensor.shape, 2), empty.real.dtype
    return tuple(tensor.shape), empty.dtype
