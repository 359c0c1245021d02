"""A perceptron of any depth in NumPy: its scores, and the gradients of its mean cross-entropy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Part = tuple[Array, Array]
"""Samples (n, features) in float32, and their classes (n)."""


def network(sizes: tuple[int, ...], seed: int) -> Arrays:
    """Return the weights of a perceptron with these numbers of units, after He et al. 2015."""
    rng = np.random.default_rng(seed)
    found: Arrays = {}
    for layer, (above, below) in enumerate(pairwise(sizes), 1):
        found[f"w{layer}"] = rng.normal(0, (2 / above) ** 0.5, (above, below)).astype(np.float32)
        found[f"b{layer}"] = np.zeros(below, np.float32)
    return found


def scores(weights: Arrays, x: Array) -> list[Array]:
    """Return the activations of each layer, the scores last."""
    layers = len(weights) // 2
    found = [x]
    for layer in range(1, layers + 1):
        out = found[-1] @ weights[f"w{layer}"] + weights[f"b{layer}"]
        found.append(np.maximum(out, 0) if layer < layers else out)
    return found


def accuracy(weights: Arrays, part: Part) -> float:
    """Return the share of right answers."""
    return float((scores(weights, part[0])[-1].argmax(1) == part[1]).mean())


def gradients(weights: Arrays, x: Array, y: Array) -> Arrays:
    """Return the gradients of the mean cross-entropy."""
    activations = scores(weights, x)
    top = activations[-1]
    likely = np.exp(top - top.max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    likely[np.arange(len(y)), y] -= 1
    error = likely / np.float32(len(y))
    found: Arrays = {}
    for layer in range(len(weights) // 2, 0, -1):
        found[f"w{layer}"] = activations[layer - 1].T @ error
        found[f"b{layer}"] = error.sum(0)
        if layer > 1:
            error = (error @ weights[f"w{layer}"].T) * (activations[layer - 1] > 0)
    return found
