"""Numbers that detectors of drift watch of an input."""

from __future__ import annotations

from typing import Any

import numpy as np


def mean_of(value: Any) -> float | None:
    """Return the mean of an input's numbers; None where it has none, such as a text."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf" or not value.size:
        return None
    return float(np.mean(value, dtype=np.float64))
