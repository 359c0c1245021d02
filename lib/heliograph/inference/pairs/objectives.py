"""What each of the pair is trained for: the edge misses nothing (recall), the cloud raises no false alarm (precision).

The weights are those of cost-sensitive learning: Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001,
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
"""What the pair is trained for unless it is said otherwise."""


@dataclass(frozen=True)
class ClassThreshold:
    """From which score on a class is said to be there.

    Attributes:
        value: the score of this class, at least.
        recall, precision: on the held-out samples at that score; a class without samples has no recall.
        reached: whether what was wanted is; otherwise it is the nearest to it.
    """

    value: float
    recall: float | None
    precision: float
    reached: bool


def pair_weights(
    labels: Array, classes: int, objectives: Mapping[str, str] = OBJECTIVES, strength: float = 0.5
) -> dict[str, Array]:
    """``class_weights`` of each model of the pair, by its name in ``objectives``."""
    return {name: class_weights(labels, classes, objective, strength) for name, objective in objectives.items()}


def class_weights(labels: Array, classes: int, objective: str, strength: float = 0.5) -> Array:
    """How much a sample of each class shall count in a model's loss, 1-D, their mean over the samples 1.

    For recall a class counts the more the rarer it is: missing one is what costs. For precision it is the other way
    round: a rare class is said only where it is sure.

    Args:
        labels: the right classes of the training samples, whole numbers from 0.
        classes: how many there are; one without samples gets the weight 1.
        strength: 0 is no weight at all; at 1, for recall, all classes count the same in sum.

    Raises Refused where the objective is unknown or a label is no class.
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
    """For each class the score at which held-out samples show the wanted recall or precision.

    Of the scores that reach a recall the highest is taken, which is the most precise; of those that reach a precision
    the lowest, which misses least. A precision that is not reached gives the score of the best one there is.

    Args:
        scores: samples × classes, finite.
        labels: the right class of each sample, whole numbers from 0.
        wanted: 0 to 1.

    Raises Refused where shapes, ranges or the objective do not fit.
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
    """The answers under the thresholds: of the classes that reach theirs the one with the highest score, the first of
    equals; -1 where none does.

    Args:
        scores: samples × classes.
    """
    values = np.array([each.value for each in thresholds])
    reached = scores >= values
    best = np.where(reached, scores, -np.inf).argmax(1)
    found: Array = np.where(reached.any(1), best, -1)
    return found


def _threshold(scores: Array, there: Array, objective: str, wanted: float) -> ClassThreshold:
    """Each distinct score is a possible threshold, from the highest down; one above all of them is never better."""
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
