"""Detectors by name. All take one number at a time and restart after a drift.

Those of River are imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from heliograph.core.errors import Refused
from heliograph.incremental.drift.page_hinkley import PageHinkley
from heliograph.incremental.drift.psi import PopulationStability

FROM_RIVER = ("adwin", "ddm", "kswin")
_OWN: dict[str, Callable[[], Detector]] = {"page-hinkley": PageHinkley, "psi": PopulationStability}


class Detector(Protocol):
    """Watches a stream of numbers."""

    def update(self, value: float) -> bool:
        """Take the next number; return whether the stream has drifted with it. Then what follows is the new normal."""
        ...


def make(name: str) -> Detector:
    """Return a new detector. Raise Refused for a name that none has, or where River is not installed."""
    if name in _OWN:
        return _OWN[name]()
    if name not in FROM_RIVER:
        raise Refused("invalid", field="drift", expected=", ".join([*_OWN, *FROM_RIVER]), got=name)
    try:
        from heliograph.incremental.drift.river_detectors import RiverDetector
    except ImportError as error:
        raise Refused("missing", field="drift", expected="River, in the environment of the worker",
                      got=f"{name}, and {error}", hint="Install heliograph[drift], or use page-hinkley or psi."
                      ) from None  # fmt: skip
    return RiverDetector(name)
