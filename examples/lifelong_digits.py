"""Lifelong learning on handwritten digits: samples of no task are told apart, and open a task of their own.

    python examples/lifelong_digits.py

Three kinds of images come one after the other: digits, their negatives, digits turned by a quarter. In a job the same
script learns what the label queue gives; a service with ``rule: unknown`` sends the samples of no task there.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from heliograph import IncrementalLearning
from heliograph.lifelong import LifelongModel


def make() -> MLPClassifier:
    """Return the model of one task."""
    return MLPClassifier((64,), learning_rate_init=0.01, random_state=0)


def train(model: MLPClassifier, x: np.ndarray, y: np.ndarray) -> None:
    for _ in range(30):
        model.partial_fit(x, y)


model = LifelongModel(make, train, classes=10)
il = IncrementalLearning(model)

x, y = load_digits(return_X_y=True)
images = (x / 16).astype(np.float32).reshape(-1, 8, 8)
kinds = {
    "upright": images,
    "negative": 1 - images,
    "turned": np.rot90(images, 1, (1, 2)),
}
samples = {name: np.ascontiguousarray(each).reshape(-1, 64) for name, each in kinds.items()}
for name, each in samples.items():
    print(f"{name}: {(model.choose(each[-200:]) < 0).mean():.0%} of the samples belong to no task")
    for this in il.rounds(each[:-200], y[:-200]):
        said = model.learn(this)  # was: train(model, this.x, this.y)
    print(f"{name}: {len(said.opened)} task opened, {len(model.tasks)} altogether, {said.waiting} samples wait")

chosen = np.concatenate([model.choose(each[-200:]) for each in samples.values()])
right = chosen == np.repeat(np.arange(len(samples)), 200)
answers = [model(each[-200:]).argmax(1) == y[-200:] for each in samples.values()]
print(f"known {np.mean(chosen >= 0):.3f}, of these the right task {right[chosen >= 0].mean():.3f}, "
      f"accuracy {np.mean(answers):.3f}")  # fmt: skip
