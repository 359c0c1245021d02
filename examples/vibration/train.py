"""Train the small network on the rows that this edge has recorded of its press.

    python examples/vibration/train.py     # outside a job: ten passes over a simulated press

In a job the worker's data set is that of vibration.yaml: ``x`` (windows × 512 × 2, float32) and ``y`` (the state's
number). Each fifth window tests.
"""

from __future__ import annotations

import numpy as np
from machine import STATES, Press
from network import HIDDEN, accuracy, learn, network

from heliograph import FederatedLearning, arrays

PASSES = 5


def simulated(windows: int = 100) -> dict[str, np.ndarray]:
    """Return so many windows of each state of a press."""
    press = Press(1)
    x = [press.measure(state) for state in STATES for _ in range(windows)]
    return {"x": np.asarray(x, np.float32), "y": np.repeat(np.arange(len(STATES)), windows)}


data = arrays() or simulated()
x, y = data["x"], data["y"]
tests = np.arange(len(y)) % 5 == 0
model, rng = network(HIDDEN), np.random.default_rng(0)


def measure() -> float:
    return accuracy(model, x[tests], y[tests])


for r in FederatedLearning(model, num_samples=int((~tests).sum()), evaluate=measure).rounds(local=10):
    learn(model, x[~tests], y[~tests], PASSES, rng)
    r.report(accuracy=measure())
    print(f"accuracy {measure():.3f} on {tests.sum()} windows that were not trained on")
