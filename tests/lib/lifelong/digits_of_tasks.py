"""Tasks made of scikit-learn's digits, and a small network, for the tests of lifelong models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from heliograph.lifelong import LifelongModel
from tests.lib.incremental.numpy_network import Network

Array = np.ndarray[Any, Any]
Turn = Callable[[Array], Array]


class Part(NamedTuple):
    """Samples (n, 64) float32 with the index of each one's class."""

    x: Array
    y: Array


class Digits(NamedTuple):
    """A task of digits: some classes, as a transform shows them. Training and test share no image."""

    train: Part
    test: Part


def upright(images: Array) -> Array:
    return images


def negative(images: Array) -> Array:
    return 1 - images


def turned(images: Array) -> Array:
    return np.rot90(images, 1, (1, 2))


@cache
def _images(split: int) -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(split).permutation(len(y))
    return (x[order] / 16).astype(np.float32).reshape(-1, 8, 8), y[order].astype(np.int64)


def task(classes: Sequence[int], turn: Turn = upright, most: int = 1200, split: int = 0) -> Digits:
    """Return the task of some classes of digits: of 1,797 images the first ``most`` train, the last 597 test.

    Args:
        split: another one draws other images for both.
    """
    images, y = _images(split)
    found = []
    for part in (slice(0, most), slice(1200, None)):
        chosen = np.isin(y[part], classes)
        rows = np.ascontiguousarray(turn(images[part][chosen])).reshape(-1, 64)
        found.append(Part(rows, y[part][chosen]))
    return Digits(*found)


class Trainable(Network):
    """The network as a model with ``get()`` and ``set(arrays)``, whose head grows."""

    def __call__(self, x: Array) -> Array:
        return self.scores(x)

    def get(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self.weights.items()}

    def set(self, arrays: Any) -> None:
        self.weights = {name: np.array(array, np.float32) for name, array in arrays.items()}

    def resize(self, classes: int) -> None:
        rng, have = np.random.default_rng(0), len(self.weights["b2"])
        if classes > have:
            new = rng.normal(0, 0.2, (len(self.weights["w2"]), classes - have)).astype(np.float32)
            self.weights["w2"] = np.concatenate([self.weights["w2"], new], 1)
            self.weights["b2"] = np.concatenate([self.weights["b2"], np.zeros(classes - have, np.float32)])


def fit(model: Trainable, x: Array, y: Array, steps: int = 250, rate: float = 0.1) -> None:
    """Train by gradient descent on batches of 32."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(0, len(x), 32)
        for name, gradient in model.gradients(x[chosen], y[chosen]).items():
            model.weights[name] -= rate * gradient


def model_of(*tasks: Digits, classes: int = 10, **options: Any) -> LifelongModel:
    """Return a lifelong model that has learned some tasks."""
    model = LifelongModel(Trainable, fit, classes=classes, **options)
    for each in tasks:
        model.open(*each.train)
    return model
