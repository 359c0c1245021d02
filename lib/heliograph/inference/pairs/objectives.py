"""Objectives of the pair: the edge's model is trained for recall (no misses), the cloud's for precision.

The class weights follow cost-sensitive learning: Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001,
https://cseweb.ucsd.edu/~elkan/rescale.pdf
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
Objective = Literal["recall", "precision"]
OBJECTIVES: dict[str, Objective] = {"edge": "recall", "cloud": "precision"}
"""Default objective of each model of the pair."""


@dataclass(frozen=True)
class ClassThreshold:
    """The least score at which a class counts as present.

    Attributes:
        value: the least score of this class.
        recall, precision: recall and precision of the validation samples at that score, 0 to 1; a class without
            samples has no recall.
        reached: whether the wanted recall or precision is reached; if not, ``value`` comes nearest to it.
    """

    value: float
    recall: float | None
    precision: float
    reached: bool


def pair_weights(
    labels: Array, classes: int, objectives: Mapping[str, str] = OBJECTIVES, strength: float = 0.5
) -> dict[str, Array]:
    """Return the ``class_weights`` of each model of the pair, by its name in ``objectives``.

    Raises:
        Refused: as ``class_weights``.
    """
    return {name: class_weights(labels, classes, objective, strength) for name, objective in objectives.items()}


def class_weights(labels: Array, classes: int, objective: str, strength: float = 0.5) -> Array:
    """Return the weight of each class in a model's loss, shape (classes,), with the mean 1 over the samples.

    For recall a rare class weighs more, since misses cost. For precision it weighs less, so that the model answers it
    only when confident.

    Args:
        labels: the right classes of the training samples, whole numbers from 0 to classes - 1, shape (samples,).
        classes: number of classes; one without samples gets the weight 1.
        objective: ``recall`` or ``precision``.
        strength: 0 gives equal weights; 1 gives, for recall, all classes the same total weight.

    Raises:
        Refused: if the objective is unknown, ``strength`` is not from 0 to 1, or a label is no class.
    """
    sign = {"recall": 1, "precision": -1}.get(objective)
    if sign is None:
        raise Refused("unknown-objective", field="objective", expected="recall or precision", got=objective)
    if not 0 <= strength <= 1:
        raise Refused("invalid", field="strength", expected="a number from 0 to 1", got=strength)
    counts = np.bincount(_labels(labels, None, classes), minlength=classes)
    weights = np.where(counts > 0, np.maximum(counts, 1) / counts.mean(), 1.0) ** (-sign * strength)
    mean = (weights * counts).sum() / counts.sum()
    return np.where(counts > 0, weights / mean, 1.0)


def class_thresholds(scores: Array, labels: Array, objective: str, wanted: float) -> list[ClassThreshold]:
    """Return for each class the score at which the validation samples reach the wanted recall or precision.

    The highest score that reaches a recall is the most precise; the lowest that reaches a precision misses least. If
    no score reaches the precision, the threshold is the score with the best one.

    Args:
        scores: finite floats, samples × classes.
        labels: the right class of each sample, whole numbers from 0 to classes - 1, shape (samples,).
        objective: ``recall`` or ``precision``.
        wanted: the recall or precision to reach, 0 to 1.

    Raises:
        Refused: if a shape or type does not fit, a label is no class, ``wanted`` is out of its range, or the objective
            is unknown.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or not scores.size or scores.dtype.kind != "f" or not np.isfinite(scores).all():
        raise Refused("bad-shape", field="scores", expected="finite float scores, samples × classes",
                      got=f"{scores.dtype} of shape {scores.shape}")  # fmt: skip
    if objective not in ("recall", "precision"):
        raise Refused("unknown-objective", field="objective", expected="recall or precision", got=objective)
    if not 0 <= wanted <= 1:
        raise Refused("invalid", field="wanted", expected="a number from 0 to 1", got=wanted)
    right = _labels(labels, len(scores), scores.shape[1])
    return [_threshold(scores[:, each], right == each, objective, wanted) for each in range(scores.shape[1])]


def decide(scores: Array, thresholds: Sequence[ClassThreshold]) -> Array:
    """Return the class of each sample, int64, shape (samples,): the highest score among classes at their threshold.

    The first of equal scores wins. A sample with no class at its threshold gets -1.

    Args:
        scores: samples × classes.
        thresholds: one for each class.
    """
    values = np.array([each.value for each in thresholds])
    reached = scores >= values
    best = np.where(reached, scores, -np.inf).argmax(1)
    found: Array = np.where(reached.any(1), best, -1)
    return found


def _threshold(scores: Array, there: Array, objective: str, wanted: float) -> ClassThreshold:
    """Find the threshold of one class among its distinct scores; a threshold above all of them is never better."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # equal scores fall on one side
    hits = np.cumsum(there[order])[last]
    precision = hits / (last + 1)
    total = int(there.sum())
    recall = hits / max(total, 1)
    if objective == "recall":
        enough = np.flatnonzero(recall >= wanted - 1e-12)
        place = int(enough[0]) if len(enough) else len(last) - 1
    else:
        enough = np.flatnonzero(precision >= wanted - 1e-12)
        place = int(enough[-1]) if len(enough) else int(precision.argmax())
    return ClassThreshold(
        float(ordered[last[place]]), float(recall[place]) if total else None, float(precision[place]),
        bool(len(enough)) and total > 0,
    )  # fmt: skip


def _labels(labels: Array, samples: int | None, classes: int) -> Array:
    found = np.asarray(labels)
    fits = found.ndim == 1 and len(found) == (len(found) if samples is None else samples) and len(found) > 0
    if not fits or found.dtype.kind not in "iu" or not 0 <= found.min() <= found.max() < classes:
        number = "" if samples is None else f"{samples} "
        raise Refused("bad-label", field="labels", expected=f"{number}whole numbers from 0 to {classes - 1}",
                      got=f"{found.dtype} of shape {found.shape}")  # fmt: skip
    return found
