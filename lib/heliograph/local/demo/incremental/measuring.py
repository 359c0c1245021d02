"""What versions of the demo's model get right, and what they would have forgotten without replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.local.demo.incremental.network import scores, train
from heliograph.local.demo.incremental.screen import Accuracies
from heliograph.local.demo.incremental.stream import KNOWN, Digits

Array = np.ndarray[Any, Any]


def measure(weights: dict[str, Array], digits: Digits) -> Accuracies:
    """Return what a version gets right of the test images."""
    x, y = digits.test
    turned, _ = digits.turned_test
    known = y < KNOWN
    right = scores(weights, x).argmax(1) == y
    return Accuracies(
        float(right[known].mean()),
        float(right[~known].mean()),
        float((scores(weights, turned).argmax(1) == y).mean()),
    )


def measure_file(file: Path, digits: Digits) -> Accuracies:
    """Return what a downloaded version gets right."""
    with TensorFile(file) as opened:
        return measure({name: opened.numpy(name).copy() for name in ("w1", "b1", "w2", "b2")}, digits)


def without_replay(
    first: dict[str, Array], labels: Sequence[tuple[bytes, int]], per_round: int, digits: Digits, seed: int
) -> Accuracies:
    """Return what the first model gets right after it has learned the same labels, so many a round, without replay."""
    from heliograph.incremental.learning import IncrementalLearning

    weights, rng = {name: array.copy() for name, array in first.items()}, np.random.default_rng(seed)
    learning = IncrementalLearning(weights, predict=lambda x: scores(weights, x), strategy=None)
    x = np.stack([np.frombuffer(key, np.uint8) for key, _ in labels]).astype(np.float32) / 16
    y = np.array([digit for _, digit in labels])
    for start in range(0, len(y) - per_round + 1, per_round):
        for this in learning.rounds(x[start : start + per_round], y[start : start + per_round]):
            train(weights, this.x, this.y, rng)
    return measure(weights, digits)
