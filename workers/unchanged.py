"""Leave out of an update what its edge has not changed: frozen layers do not travel. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.weights_file import CONSTANT, TensorFile

if TYPE_CHECKING:
    import numpy as np

    from heliograph.bus.contract.weights_file import Arrays

    Array = np.ndarray[Any, Any]

_BLOCK = 1 << 20
"""Elements that are compared at a time."""


def without_unchanged(arrays: Arrays, base: TensorFile) -> dict[str, Array]:
    """Return the arrays that differ in any bit from the base's tensors of their names, and those of other names."""
    return {name: array for name, array in arrays.items() if name not in base.tensors or not _equal(array, base, name)}


def without_unknown_constants(arrays: Arrays, base: TensorFile) -> dict[str, Array]:
    """Return the arrays without constants that the base lacks: a model of an earlier version has none."""
    return {name: array for name, array in arrays.items() if name in base.tensors or not name.startswith(CONSTANT)}


def _equal(array: Array, base: TensorFile, name: str) -> bool:
    """Return whether the array has the base's bits. A BF16 tensor travels as float32."""
    tensor, stored = base.tensors[name], base.numpy(name)
    wide = tensor.dtype == "BF16"
    if array.shape != tensor.shape or array.dtype != ("<f4" if wide else stored.dtype):
        return False
    kind = f"u{array.dtype.itemsize}"
    own, other = array.reshape(-1), stored.reshape(-1)
    for start in range(0, own.size, _BLOCK):
        here = slice(start, start + _BLOCK)
        block = bfloat16.widen(other[here]) if wide else other[here]
        if not (own[here].view(kind) == block.view(kind)).all():
            return False
    return True
