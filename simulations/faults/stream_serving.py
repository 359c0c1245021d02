"""The incremental job's service: an edge answers with the class whose mean is nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heliograph import JointInference

Array = np.ndarray[Any, Any]
SERVICE = "stream"
CLASSES, FEATURES = 10, 16
NAMES = tuple(f"digit-{number}" for number in range(CLASSES))


def prototypes() -> Array:
    """Return the true mean of each class, shape (classes, features)."""
    return np.random.default_rng(7).normal(size=(CLASSES, FEATURES)).astype(np.float32) * 3


def first_weights(noise: float) -> dict[str, Array]:
    """Return a model that knows the means, but for some noise."""
    w = (prototypes() + np.random.default_rng(8).normal(size=(CLASSES, FEATURES)) * noise).T.astype(np.float32)
    return {"w": w, "b": -(w**2).sum(0) / 2}


class Means:
    """The model of the service."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = dict(weights)

    def get(self) -> dict[str, Array]:
        return dict(self.weights)

    def set(self, arrays: Mapping[str, Array]) -> None:
        self.weights = {name: np.array(array) for name, array in arrays.items()}

    def scores(self, x: Array) -> Array:
        """Return the score of each class, shape (samples, classes)."""
        found: Array = x @ self.weights["w"] + self.weights["b"]
        return found

    def __call__(self, batch: Sequence[Array]) -> Array:
        scores = self.scores(np.stack(batch))
        weights = np.exp(scores - scores.max(1, keepdims=True))
        found: Array = weights / weights.sum(1, keepdims=True)
        return found


def main() -> None:
    JointInference(SERVICE, edge=Means(first_weights(0)), classes=list(NAMES), rule="always").serve()


if __name__ == "__main__":
    main()
