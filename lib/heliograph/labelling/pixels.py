"""Arrays as images, for people to look at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def as_pixels(x: Array) -> Array | None:
    """Return an array as an image, height × width × 3 of bytes; None where it is none.

    It is one where its axes are height × width, with or without 1, 3 or 4 channels as last or first axis, or where it
    is one row of a square number of values. Numbers outside 0 to 1, but for bytes, are stretched to that range.
    """
    if x.ndim == 1 and len(x) >= 16 and math.isqrt(len(x)) ** 2 == len(x):
        x = x.reshape(math.isqrt(len(x)), -1)
    if x.ndim == 3 and x.shape[0] in (1, 3, 4) and x.shape[2] not in (1, 3, 4):
        x = np.moveaxis(x, 0, -1)
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3 or x.shape[2] not in (1, 3, 4) or min(x.shape[:2]) < 2:
        return None
    pixels = np.nan_to_num(x[:, :, :3].astype(np.float64), posinf=0, neginf=0)
    if x.dtype == np.uint8:
        pixels /= 255
    elif pixels.min() < 0 or pixels.max() > 1:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / (high - low or 1)
    found: Array = np.rint(255 * np.broadcast_to(pixels, (*pixels.shape[:2], 3))).astype(np.uint8)
    return found
