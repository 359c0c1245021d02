"""Two small networks for images of 8 × 8 pixels: a dict of arrays each, and what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
RATE = 0.3


def shallow() -> Weights:
    """Return the edge's model: 4 × 4 pixels, each the mean of four, and one small hidden layer."""
    return network(16, 12)


def deep() -> Weights:
    """Return the cloud's model of all pixels."""
    return network(64, 96)


def network(pixels: int, hidden: int) -> Weights:
    """Return weights that are not trained yet."""
    first = np.random.default_rng(0).normal(0, (2 / pixels) ** 0.5, (pixels, hidden)).astype(np.float32)
    zeros = {"first_bias": hidden, "head_bias": 10}
    return {"first": first, "head": np.zeros((hidden, 10), np.float32),
            **{name: np.zeros(size, np.float32) for name, size in zeros.items()}}  # fmt: skip


def scores(model: Weights, images: Array) -> Array:
    """Return the logits (n, 10) of images (n, 64)."""
    return np.asarray(hidden_layer(model, images) @ model["head"] + model["head_bias"])


def propagate(model: Weights, images: Array, error: Array) -> None:
    """Take a step against the gradient ``error`` (n, 10) of the loss with respect to the logits."""
    hidden = hidden_layer(model, images)
    back = (error @ model["head"].T) * (hidden > 0)
    model["head"] -= RATE * hidden.T @ error
    model["head_bias"] -= RATE * error.sum(0)
    model["first"] -= RATE * seen(model, images).T @ back
    model["first_bias"] -= RATE * back.sum(0)


def hidden_layer(model: Weights, images: Array) -> Array:
    return np.asarray(np.maximum(seen(model, images) @ model["first"] + model["first_bias"], 0))


def seen(model: Weights, images: Array) -> Array:
    """Return what a model sees of images: all pixels, or 4 × 4 means."""
    if len(model["first"]) == images.shape[1]:
        return images
    return np.asarray(images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16))
