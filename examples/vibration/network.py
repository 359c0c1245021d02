"""A small network that tells a bearing's state by the spectrum of its envelope, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from machine import STATES

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
BINS = 64
"""Lines of the spectrum: up to 256 Hz, above the rates at which balls pass."""
HIDDEN = 16
"""Width of the model that edges train."""
RATE, BATCH = 0.2, 32


def network(hidden: int) -> Weights:
    """Return weights that are not trained yet."""
    rng = np.random.default_rng(0)
    return {
        "first": rng.normal(0, (2 / (2 * BINS)) ** 0.5, (2 * BINS, hidden)).astype(np.float32),
        "first_bias": np.zeros(hidden, np.float32),
        "head": np.zeros((hidden, len(STATES)), np.float32),
        "head_bias": np.zeros(len(STATES), np.float32),
    }


def features(windows: Array) -> Array:
    """Return the envelope spectrum of windows, n × length × axes, as n × numbers around 0.

    The difference of two samples lets the ringing pass and holds the turning back; its size is the envelope, which
    rises with each blow.
    """
    envelope = np.abs(np.diff(windows, axis=1))
    envelope -= envelope.mean(1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(envelope * np.hanning(envelope.shape[1])[:, None], axis=1))[:, 1 : BINS + 1]
    found = np.log(spectrum + 1) - 1.5
    return np.asarray(found.transpose(0, 2, 1).reshape(len(windows), -1), np.float32)


def scores(model: Weights, windows: Array) -> Array:
    """Return the logits, n × states."""
    return np.asarray(_hidden(model, features(windows)) @ model["head"] + model["head_bias"])


def accuracy(model: Weights, windows: Array, labels: Array) -> float:
    """Return the share of windows whose state is told right."""
    return float((scores(model, windows).argmax(1) == labels).mean())


def learn(model: Weights, windows: Array, labels: Array, passes: int, rng: np.random.Generator) -> None:
    """Train by gradient descent on the cross-entropy."""
    known = features(windows)
    for _ in range(passes):
        order = rng.permutation(len(known))
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            _step(model, known[chosen], labels[chosen])


def _hidden(model: Weights, known: Array) -> Array:
    return np.asarray(np.maximum(known @ model["first"] + model["first_bias"], 0))


def _step(model: Weights, known: Array, labels: Array) -> None:
    hidden = _hidden(model, known)
    logits = hidden @ model["head"] + model["head_bias"]
    error = np.exp(logits - logits.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    back = (error @ model["head"].T) * (hidden > 0)
    for name, gradient in (("head", hidden.T @ error), ("head_bias", error.sum(0)),
                           ("first", known.T @ back), ("first_bias", back.sum(0))):  # fmt: skip
        model[name] -= RATE * gradient
