"""What retraining at a detector's drift gains on Elec2, beside the baseline that predicts no change.

    python -m benchmarks.quality.elec2_drift                         # the detectors that are installed
    python -m benchmarks.quality.elec2_drift page-hinkley psi

Each row is answered before its label is used. A logistic regression is trained on the first rows, and once more on the
rows just gone by where a detector sees a drift of its scores or of its inputs, as a job's trigger begins a round.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.quality.elec2 import elec2
from heliograph.core.errors import HeliographError, Refused
from heliograph.incremental.drift.detector import FROM_RIVER
from heliograph.incremental.drift.watch import DriftWatch

Array = np.ndarray[Any, Any]
WINDOW = 1000
"""Rows that a model is trained on: about three weeks."""
OWN = ("page-hinkley", "psi")
PUBLISHED = 0.8533
"""Accuracy of predicting no change."""


@dataclass(frozen=True)
class Outcome:
    """What one way of retraining reached on the rows after the first ``WINDOW``.

    Attributes:
        rounds: trainings after the first one.
    """

    accuracy: float
    rounds: int


def no_change() -> float:
    """Return the accuracy of predicting each label as the one before it, over the whole stream."""
    y = elec2()[1]
    return float((y[1:] == y[:-1]).mean())


def run(detector: str = "", every: int = 0) -> Outcome:
    """Play the stream.

    Args:
        detector: name of the detector whose drifts begin a training; without one none does.
        every: rows after which the model is trained again whatever happens; 0 for never.
    """
    x, y = elec2()
    watch = DriftWatch((detector,) if detector else (), lambda: 0.0)
    weights = _trained(x[:WINDOW], y[:WINDOW])
    right = rounds = 0
    for row in range(WINDOW, len(y)):
        chance = _chance(weights, x[row])
        right += (chance > 0.5) == y[row]
        watch.score(max(chance, 1 - chance))
        watch.features(float(x[row].mean()))
        if watch.seen or (every and row % every == 0):
            watch.seen.clear()
            weights = _trained(x[row - WINDOW : row], y[row - WINDOW : row])
            rounds += 1
    return Outcome(right / (len(y) - WINDOW), rounds)


def _trained(x: Array, y: Array, steps: int = 20, ridge: float = 1e-3) -> Array:
    """Return the weights of a logistic regression, by Newton's method."""
    rows = np.c_[np.ones(len(x)), x]
    weights = np.zeros(rows.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(rows @ weights, -50, 50)))
        hessian = (rows * (p * (1 - p))[:, None]).T @ rows / len(y) + ridge * np.eye(len(weights))
        weights -= np.linalg.solve(hessian, rows.T @ (p - y) / len(y) + ridge * weights)
    return weights


def _chance(weights: Array, x: Array) -> float:
    return float(1 / (1 + np.exp(-np.clip(weights[0] + x @ weights[1:], -50, 50))))


def main(words: list[str] | None = None) -> int:
    """Print the table, and return 1 where the baseline is not the published one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.elec2_drift", description=__doc__)
    parser.add_argument("detectors", nargs="*", metavar="DETECTOR", help="all by default")
    given = parser.parse_args(words)
    try:
        baseline = no_change()
        print(f"{'no change: as the row before':32} {baseline:7.2%}")
        for name, every in (("trained once", 0), ("again after each 1,000 rows", WINDOW)):
            _show(name, run(every=every))
        for detector in given.detectors or (*OWN, *FROM_RIVER):
            try:
                _show(f"again at a drift of {detector}", run(detector))
            except Refused as error:
                print(f"{'again at a drift of ' + detector:32} left out: {error}")
    except HeliographError as error:
        print(error, file=sys.stderr)
        return 1
    return int(round(baseline, 4) != PUBLISHED)


def _show(name: str, outcome: Outcome) -> None:
    print(f"{name:32} {outcome.accuracy:7.2%} {outcome.rounds:5} trainings")


if __name__ == "__main__":
    sys.exit(main())
