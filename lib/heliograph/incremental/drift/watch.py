"""Watch a served model for drift: its scores and its inputs, each by the detectors that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heliograph.incremental.drift.detector import Detector, make

SCORES, FEATURES = "scores", "features"
OF_SCORES_ONLY = ("ddm",)
"""Detectors that count errors, for which a low score is taken."""


class DriftWatch:
    """The detectors of one model.

    Attributes:
        seen: ``scores/page-hinkley`` and the like to the time at which the detector last saw a drift.
    """

    def __init__(self, detectors: Sequence[str], now: Callable[[], float]) -> None:
        """Raise Refused where a detector is not to be had."""
        self.names = tuple(detectors)
        self.seen: dict[str, float] = {}
        self._now = now
        self._version = ""
        self._of = {SCORES: _of(self.names), FEATURES: _of(names_of_features(self.names))}

    def score(self, confidence: float, version: str = "") -> None:
        """Take the highest score of an answer. Another version's scores become the new normal ones."""
        if version != self._version:
            self._version, self._of[SCORES] = version, _of(self.names)
        self._take(SCORES, confidence)

    def features(self, value: float) -> None:
        """Take one number of an input, its mean."""
        self._take(FEATURES, value)

    def _take(self, what: str, value: float) -> None:
        for name, detector in self._of[what].items():
            if detector.update(value):
                self.seen[f"{what}/{name}"] = self._now()


def names_of_features(names: Sequence[str]) -> list[str]:
    """Return the detectors that can watch inputs."""
    return [name for name in names if name not in OF_SCORES_ONLY]


def _of(names: Sequence[str]) -> dict[str, Detector]:
    return {name: make(name) for name in names}
