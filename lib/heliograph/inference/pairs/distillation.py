"""Distillation: the shallow model learns the deep model's probabilities of all classes.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531
"""

from __future__ import annotations

from typing import Any

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]


def soft_targets(teacher: Array, temperature: float = 4.0) -> Array:
    """Return the deep model's softened probabilities, softmax(logits / T), samples × classes, each row summing to 1.

    PyTorch takes them as targets: ``cross_entropy(student / T, torch.from_numpy(targets)) * T**2``.

    Args:
        teacher: the deep model's logits, samples × classes; for a model with probabilities, their logarithms.
        temperature: T, above 0; a higher one gives more weight to the classes that the deep model rejects.

    Raises:
        Refused: if the logits are not finite floats, samples × classes, or the temperature is not above 0.
    """
    if not temperature > 0:
        raise Refused("invalid", field="temperature", expected="a number above 0", got=temperature)
    return _softmax(_checked(teacher, "teacher"), temperature)


def distillation(
    student: Array,
    teacher: Array,
    labels: Array | None = None,
    *,
    temperature: float = 4.0,
    share: float = 0.9,
    class_weights: Array | None = None,
) -> tuple[float, Array]:
    """Return the loss of a batch and its gradient with respect to the shallow model's logits.

    The loss is ``share`` · T² · cross-entropy with the soft targets at T, plus (1 - ``share``) · cross-entropy with
    the labels at 1. T² keeps the soft part's gradient as large as the other's (section 2 of the paper). A NumPy model
    propagates the gradient backwards itself; PyTorch does so by ``logits.backward(torch.from_numpy(gradient))``.

    Args:
        student, teacher: finite float logits of the same samples, samples × classes.
        labels: the right classes, whole numbers, shape (samples,); without them the loss is the soft part alone.
        temperature: T of the soft part, above 0.
        share: weight of the soft part, 0 to 1.
        class_weights: weights in the labels' part, shape (classes,); see ``objectives.class_weights``.

    Returns:
        The mean loss, and its gradient: samples × classes, of the student's dtype.

    Raises:
        Refused: if a shape or type does not fit, a label is no class, or a value is out of its range.
    """
    wanted = soft_targets(teacher, temperature)
    logits = _checked(student, "student")
    if logits.shape != wanted.shape:
        raise Refused("bad-shape", field="student", expected=f"the teacher's shape {wanted.shape}", got=logits.shape)
    if not 0 <= share <= 1:
        raise Refused("invalid", field="share", expected="a number from 0 to 1", got=share)
    samples = len(logits)
    soft = 1.0 if labels is None else share
    at_temperature = _softmax(logits, temperature)
    losses = -soft * temperature**2 * (wanted * _log_softmax(logits, temperature)).sum(1)
    gradient = soft * temperature * (at_temperature - wanted)
    if labels is not None:
        right = _checked_labels(labels, logits.shape)
        weights = np.ones(samples) if class_weights is None else np.asarray(class_weights, float)[right]
        rows = np.arange(samples)
        losses -= (1 - soft) * weights * _log_softmax(logits, 1.0)[rows, right]
        hard = _softmax(logits, 1.0)
        hard[rows, right] -= 1
        gradient += (1 - soft) * weights[:, None] * hard
    found: Array = (gradient / samples).astype(np.asarray(student).dtype)
    return float(losses.mean()), found


def _checked(logits: Array, name: str) -> Array:
    found = np.asarray(logits)
    if found.ndim != 2 or not found.size or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise Refused("bad-shape", field=name, expected="finite float logits, samples × classes",
                      got=f"{found.dtype} of shape {found.shape}")  # fmt: skip
    return found.astype(np.float64)


def _checked_labels(labels: Array, shape: tuple[int, ...]) -> Array:
    found = np.asarray(labels)
    if found.shape != shape[:1] or found.dtype.kind not in "iu" or not 0 <= found.min() <= found.max() < shape[1]:
        raise Refused("bad-label", field="labels", expected=f"{shape[0]} whole numbers from 0 to {shape[1] - 1}",
                      got=f"{found.dtype} of shape {found.shape}")  # fmt: skip
    return found


def _log_softmax(logits: Array, temperature: float) -> Array:
    scaled = logits / temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    found: Array = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
    return found


def _softmax(logits: Array, temperature: float) -> Array:
    found: Array = np.exp(_log_softmax(logits, temperature))
    return found
