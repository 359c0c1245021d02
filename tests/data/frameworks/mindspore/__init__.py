"""A stand-in for MindSpore: the part of its API that an adapter uses, over NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindspore import nn as nn

float32 = "Float32"
bfloat16 = "BFloat16"
int32 = "Int32"
_NUMPY = {float32: np.float32, bfloat16: np.float32, int32: np.int32}


class Tensor:
    """Values of a type. bfloat16 keeps the upper half of each float32."""

    def __init__(self, values: Any, dtype: str) -> None:
        self.dtype = dtype
        self._values = np.asarray(values).astype(_NUMPY[dtype])
        if dtype == bfloat16:
            self._values = (self._values.view(np.uint32) & 0xFFFF0000).view(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape

    def astype(self, dtype: str) -> Tensor:
        return Tensor(self._values, dtype)

    def asnumpy(self) -> np.ndarray[Any, Any]:
        """Return a view of the memory, as MindSpore does."""
        if self.dtype == bfloat16:
            raise TypeError("For asnumpy, the type of tensor cannot be BFloat16.")
        return self._values


class Parameter(Tensor):
    def __init__(self, values: Any, name: str, dtype: str = float32) -> None:
        super().__init__(values, dtype)
        self.name = name

    def set_data(self, data: Tensor) -> Parameter:
        if (data.shape, data.dtype) != (self.shape, self.dtype):
            raise ValueError(f"Can not change the shape or type of Parameter {self.name}.")
        self._values = data._values
        return self
