"""Convert bfloat16, which NumPy lacks: the upper half of a float32, stored as ``uint16`` bits (safetensors' BF16)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

END = 3.3961775e38
"""The smallest float32 that rounds to an infinite bfloat16: half a step above the largest finite one."""


def widen(bits: Array) -> Array:
    """Return the float32 values of bfloat16 bits, in a new array of the same shape."""
    wide = bits.astype("<u4")
    wide <<= 16
    return wide.view("<f4")


def narrow(values: Array) -> Array:
    """Return the bits of the bfloat16 nearest to each value, ties to even, as ``uint16`` of the same shape."""
    import numpy as np

    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded: Array = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2")
