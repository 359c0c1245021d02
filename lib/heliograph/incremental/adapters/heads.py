"""Heads of other sizes: the last layer of a classifier, with a row for each class. Pure.

A class's index is its row for ever. More classes keep all rows and get new ones behind them; fewer keep the first ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def resized(array: Array, axis: int, count: int, rng: np.random.Generator) -> Array:
    """Return a head's array with ``count`` classes along ``axis``.

    A new class's weights are drawn with the spread of the others; its bias, an array of one axis, is their mean, so
    that it begins neither preferred nor suppressed.
    """
    have = array.shape[axis]
    if count <= have:
        return np.take(array, np.arange(count), axis).copy()
    shape = (*array.shape[:axis], count - have, *array.shape[axis + 1 :])
    if array.ndim == 1:
        new = np.full(shape, array.mean() if have else 0.0)
    else:
        new = rng.normal(0, float(array.std()) or 0.01, shape)
    return np.concatenate([array, new.astype(array.dtype)], axis)


def known_part(array: Array, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part of a grown array that was there when its shape was ``shape``."""
    return tuple(slice(0, length) for length in shape[: array.ndim])
