"""The weighted mean of integer tensors, such as counters, for all integers of 64 bits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]

_PLAIN = 2.0**40
"""Below it a sum in float64 is exact to a thousandth."""
_FAR = 2.0**62
"""Differences from here on may not fit into 64 bits."""


def mean_of_integers(blocks: Sequence[Block], weights: Sequence[float]) -> Block:
    """Return the weighted mean of the same piece of each update, rounded to even; of booleans the weighted majority.

    Where all updates agree, their value stays. A float64 does not tell integers beyond 2^53 apart, so that the mean of
    large ones is taken of their differences from the first update: it is as exact as a float64 is for these.

    Args:
        blocks: flat arrays of one length and one integer or boolean dtype.
        weights: one for each block, summing to 1.
    """
    import numpy as np

    first = blocks[0]
    total = np.zeros(first.shape, np.float64)
    agree = np.ones(first.shape, np.bool_)
    large = np.zeros(first.shape, np.bool_)
    for block, weight in zip(blocks, weights, strict=True):
        wide = block.astype(np.float64)
        total += wide * weight
        agree &= block == first
        large |= np.abs(wide) >= _PLAIN
    if first.dtype == np.bool_:
        return np.where(agree, first, total > 0.5)
    mean = np.where(agree | large, first, np.rint(np.where(large, 0.0, total)).astype(first.dtype))
    if (large := large & ~agree).any():
        mean[large] = _of_large([block[large] for block in blocks], weights, total[large])
    return mean


def _of_large(blocks: Sequence[Block], weights: Sequence[float], total: Block) -> Block:
    """Return the mean of integers of 64 bits. ``total`` is their mean in float64, for those that differ most."""
    import numpy as np

    first = blocks[0]
    bounds = np.iinfo(first.dtype)
    far = np.zeros(first.shape, np.bool_)
    apart = np.zeros(first.shape, np.float64)
    for block, weight in zip(blocks, weights, strict=True):
        far |= np.abs(block.astype(np.float64) - first.astype(np.float64)) >= _FAR
        apart += (block.view(np.int64) - first.view(np.int64)) * weight  # wraps only where it is far
    below = np.floor(np.where(far, 0.0, apart))
    up = (apart - below > 0.5) | ((apart - below == 0.5) & ((first.view(np.int64) + below.astype(np.int64)) % 2 == 1))
    near = (first.view(np.int64) + below.astype(np.int64) + up).view(first.dtype)
    inside = np.clip(np.rint(total), float(bounds.min), np.nextafter(float(bounds.max), 0.0))
    return np.where(far, inside.astype(first.dtype), near)
