"""Softmax regression, or a network with one hidden layer, in NumPy alone; equal arguments give equal bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    Array = np.ndarray[Any, Any]
    Arrays = Mapping[str, Array]


def initial_weights(features: int, hidden: int, classes: int, seed: int) -> dict[str, Array]:
    """Return initial weights in float32, after He et al. 2015, https://arxiv.org/abs/1502.01852.

    Shapes: ``w1`` (features × hidden), ``b1`` (hidden), ``w2`` (hidden × classes), ``b2`` (classes). Without a hidden
    layer there are only ``w2`` (features × classes) and ``b2``.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    if hidden:
        weights["w1"] = rng.normal(0, (2 / features) ** 0.5, (features, hidden)).astype(np.float32)
        weights["b1"] = np.zeros(hidden, np.float32)
    inner = hidden or features
    weights["w2"] = rng.normal(0, (1 / inner) ** 0.5, (inner, classes)).astype(np.float32)
    weights["b2"] = np.zeros(classes, np.float32)
    return weights


def train(
    base: Arrays, x: Array, y: Array, *, epochs: int, batch: int, rate: float, seed: int
) -> tuple[dict[str, Array], float]:
    """Return the weights after ``epochs`` passes of stochastic gradient descent, and the mean loss of the last pass.

    Args:
        x: samples, shape (samples, features), float32.
        y: classes, shape (samples,).
    """
    import numpy as np

    weights = {name: np.array(array, np.float32) for name, array in base.items()}
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    for _ in range(epochs):
        order = rng.permutation(len(y)) if len(y) > batch else np.arange(len(y))
        losses = []
        for start in range(0, len(y), batch):
            chosen = order[start : start + batch]
            losses.append(_step(weights, x[chosen], y[chosen], np.float32(rate)) * len(chosen))
    return weights, sum(losses) / len(y)


def evaluate(weights: Arrays, x: Array, y: Array) -> dict[str, float]:
    """Return ``accuracy``, and ``loss``, the mean cross-entropy, if it is finite."""
    import numpy as np

    with np.errstate(all="ignore"):  # a corrupted model may overflow and is evaluated all the same
        _, scores = _forward(weights, x)
        likely = _softmax(scores)[np.arange(len(y)), y]
        loss = float(-np.log(np.maximum(likely, 1e-12)).mean())
    found = {"accuracy": float((scores.argmax(1) == y).mean())}
    return found | ({"loss": loss} if np.isfinite(loss) else {})


def _forward(weights: Arrays, x: Array) -> tuple[Array, Array]:
    inner = x
    if "w1" in weights:
        inner = x @ weights["w1"]
        inner += weights["b1"]
        inner[inner < 0] = 0
    return inner, inner @ weights["w2"] + weights["b2"]


def _softmax(scores: Array) -> Array:
    import numpy as np

    likely: Array = np.exp(scores - scores.max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    return likely


def _step(weights: dict[str, Array], x: Array, y: Array, rate: np.float32) -> float:
    import numpy as np

    rows = np.arange(len(y))
    inner, scores = _forward(weights, x)
    error = _softmax(scores)
    loss = float(-np.log(np.maximum(error[rows, y], np.float32(1e-12))).mean())
    error[rows, y] -= 1
    error *= rate / np.float32(len(y))
    if "w1" in weights:
        back = error @ weights["w2"].T
        back[inner <= 0] = 0
        weights["w1"] -= x.T @ back
        weights["b1"] -= back.sum(0)
    weights["w2"] -= inner.T @ error
    weights["b2"] -= error.sum(0)
    return loss
