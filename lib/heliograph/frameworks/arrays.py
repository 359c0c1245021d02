"""The adapter for a plain dict of NumPy arrays, and the check that incoming arrays fit a model of any framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]


class ArraysModel:
    """A dict of NumPy arrays, written in place: references to them in the user's script stay valid.

    A complex array travels as real numbers, with one more dimension of two: real and imaginary part.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if not isinstance(name, str) or not isinstance(array, np.ndarray):
                raise Refused("bad-model", field=f"model[{name!r}]", expected="a name and its NumPy array",
                              got=type(array), hint=_hint_for(array))  # fmt: skip
        self._arrays = arrays

    def get(self) -> dict[str, Array]:
        return {name: real_view(array.copy()) for name, array in self._arrays.items()}

    def set(self, arrays: Mapping[str, Array]) -> None:
        check_fit({name: real_layout(array) for name, array in self._arrays.items()}, arrays)
        for name, array in self._arrays.items():
            if not array.flags.writeable:
                raise Refused("bad-model", field=f"model[{name!r}]", expected="an array that can be written",
                              got="a read-only one", hint="Give the model a copy of it.")  # fmt: skip
        for name, array in self._arrays.items():
            given = arrays[name]
            if array.dtype.kind == "c":
                given = given[..., 0] + 1j * given[..., 1]
            np.copyto(array, given, casting="same_kind")


def check_fit(own: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], arrays: Mapping[str, Array]) -> None:
    """Raise Refused naming the first of ``arrays`` that does not fit a model's own (name to shape and dtype).

    Widths may differ: a float64 array fits a float32 parameter. Kinds must agree: bfloat16 bits read as uint16 would
    be nonsense in a float parameter.
    """
    for name in sorted(own.keys() | arrays.keys()):
        if name not in arrays:
            raise _misfit(name, "an array of this name, which the script's model has", "none")
        if name not in own:
            raise _misfit(name, f"only the {len(own)} arrays of the script's model", "an array of this name")
        shape, dtype = own[name]
        array = arrays[name]
        if array.shape != shape:
            raise _misfit(name, f"shape {shape}", f"shape {array.shape}")
        if _kind(array.dtype) != _kind(dtype):
            raise _misfit(name, f"an array of type {dtype}", f"type {array.dtype}")


def real_layout(array: Array) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype in which an array travels."""
    if array.dtype.kind != "c":
        return array.shape, array.dtype
    return (*array.shape, 2), np.empty(0, array.dtype).real.dtype


def real_view(array: Array) -> Array:
    """Return a complex array as real numbers, real and imaginary part last; any other array as it is."""
    if array.dtype.kind != "c":
        return array
    shape, dtype = real_layout(array)
    return np.ascontiguousarray(array).reshape(-1).view(dtype).reshape(shape)


def _kind(dtype: np.dtype[Any]) -> str:
    return "i" if dtype.kind == "u" else dtype.kind


def _hint_for(value: object) -> str:
    root = type(value).__module__.partition(".")[0]
    if root in ("jax", "jaxlib"):
        return "JAX's arrays cannot be written in place: pass a dict of numpy.array(...) copies, used in the loop."
    if root == "torch":
        return "Let every value be a torch.Tensor, or every value a NumPy array."
    if isinstance(value, Mapping):
        return "Flatten a nested dict: {'layer/weight': array}."
    return "Wrap a number or a list in numpy.array(...)."


def _misfit(name: str, expected: str, got: str) -> Refused:
    return Refused(
        "bad-weights",
        field=name,
        expected=expected,
        got=got,
        hint="The job's weights belong to another model than the one this script builds. Compare the two, "
        "or start the job from the script's own weights.",
    )
