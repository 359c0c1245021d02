"""The weighted mean of integer tensors, such as counters: exact for all integers of 64 bits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]

_EXACT_IN_FLOAT = 2.0**52
"""Below it a float64 holds every integer and the half between two of them."""


def mean_of_integers(blocks: Sequence[Block], weights: Sequence[float]) -> Block:
    """Return the weighted mean of the same piece of each update, rounded to even; of booleans the weighted majority.

    Where all updates agree, their value stays. Integers beyond 2^52 are summed as fractions; others as float64.

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
        large |= np.abs(wide) >= _EXACT_IN_FLOAT
    if first.dtype == np.bool_:
        return np.where(agree, first, total > 0.5)
    small = np.rint(np.where(large, 0.0, total)).astype(first.dtype)
    mean = np.where(agree | large, first, small)
    for index in np.flatnonzero(large & ~agree):
        mean[index] = _exact([int(block[index]) for block in blocks], weights)
    return mean


def _exact(values: Sequence[int], weights: Sequence[float]) -> int:
    shares = [Fraction(weight) for weight in weights]
    return round(sum((share * value for share, value in zip(shares, values, strict=True)), Fraction()) / sum(shares))
