"""ADWIN, DDM and KSWIN as River has them. Workers alone import this module: River brings SciPy.

ADWIN: https://doi.org/10.1137/1.9781611972771.42; DDM: https://doi.org/10.1007/978-3-540-28645-5_29;
KSWIN: https://doi.org/10.1016/j.neucom.2019.11.111.
"""

from __future__ import annotations

import math
from typing import Any

from river import drift


class RiverDetector:
    """One of River's detectors, which restart by themselves after a drift."""

    def __init__(self, name: str) -> None:
        # KSWIN tests after each number: at River's 0.005 it sees a drift in most streams that have none. DDM compares
        # with its best moment, which after River's 30 numbers is often one without any error
        made: dict[str, Any] = {
            "adwin": drift.ADWIN,
            "ddm": lambda: drift.binary.DDM(warm_start=500),
            "kswin": lambda: drift.KSWIN(alpha=1e-5, seed=0),
        }
        self._binary = name == "ddm"
        self._detector = made[name]()

    def update(self, value: float) -> bool:
        """See ``Detector.update``. DDM counts errors: it takes a score below a half for one."""
        if not math.isfinite(value):
            return False
        self._detector.update(value < 0.5 if self._binary else value)
        return bool(self._detector.drift_detected)
