"""Calibration: the temperature at which the edge's confidence matches its accuracy.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
https://arxiv.org/abs/1706.04599: temperature scaling, fitted by the likelihood of validation labels, and the expected
calibration error. Fit the temperature on samples that neither model was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Refused
from heliograph.inference.hard_samples.scores import Scores, as_list

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BINS = 15
"""Number of bins in the expected calibration error, as in the paper."""
LOWEST, HIGHEST = 0.01, 100.0
"""Bounds of a fitted temperature: beyond them samples no longer determine it."""
SUM_WITHIN = 1e-2
"""Largest distance from 1 of a sum of probabilities: small float types round each of them."""
_STEPS = 50
_FLOOR = 1e-38
"""Substitute for the probability 0, which has no logarithm: the least value of a float32 softmax."""


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature, with its effect on the samples it was fitted on.

    Attributes:
        temperature: above 1 for an overconfident model, as deep models are.
        error_before, error_after: expected calibration error at temperature 1 and at the fitted one, 0 to 1.
        loss_before, loss_after: mean negative log-likelihood of the labels, in nats.
        samples: number of samples with finite scores.
    """

    temperature: float
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float
    samples: int


def calibrate(scores: Scores, temperature: float) -> Scores:
    """Return the scores of one sample at a temperature above 0: a list of as many numbers, one for each class.

    Probabilities (none negative, their sum 1) become the probabilities softmax(log p / T); other scores count as
    logits and are divided by T. The order of the classes stays. Scores come back unchanged at temperature 1, and where
    ``as_list`` cannot read them. One call takes microseconds and needs no NumPy.
    """
    if temperature == 1 or not (found := as_list(scores)):
        return scores
    if not is_distribution(found):
        return [each / temperature for each in found]
    most, power = max(found), 1 / temperature
    raised = [(each / most) ** power for each in found]
    total = sum(raised)
    return [each / total for each in raised]


def is_distribution(found: Sequence[float]) -> bool:
    """Return whether the scores are probabilities of classes: none negative, and their sum 1."""
    return bool(found) and min(found) >= 0 and abs(sum(found) - 1) <= SUM_WITHIN


def fit_temperature(scores: Array, labels: Array) -> Calibration:
    """Fit the temperature at which the labels are likeliest, by Newton's method.

    Args:
        scores: logits or probabilities, samples × classes; rows with NaN or infinities are skipped.
        labels: the right class of each sample, whole numbers from 0 to classes - 1, shape (samples,).

    Raises:
        Refused: if a shape or type does not fit, a label is no class, or no sample has finite scores.
    """
    import numpy as np

    scores, labels = _finite_samples(scores, labels)
    probable = bool((scores >= 0).all() and (np.abs(scores.sum(1) - 1) <= SUM_WITHIN).all())
    logits = np.log(np.maximum(scores, _FLOOR)) if probable else scores
    logits = logits - logits.max(1, keepdims=True)
    temperature = 1 / _likeliest_beta(logits, labels)
    before, after = _log_softmax(logits), _log_softmax(logits / temperature)
    rows = np.arange(len(labels))
    return Calibration(
        temperature,
        expected_calibration_error(np.exp(before), labels),
        expected_calibration_error(np.exp(after), labels),
        float(-before[rows, labels].mean()),
        float(-after[rows, labels].mean()),
        len(labels),
    )


def expected_calibration_error(probabilities: Array, labels: Array, bins: int = BINS) -> float:
    """Return the expected calibration error (ECE), 0 to 1: the mean distance between confidence and accuracy.

    The mean is over bins of equal width, weighted by their samples.

    Args:
        probabilities: samples × classes; rows with NaN or infinities are skipped.
        labels: the right class of each sample, whole numbers from 0 to classes - 1, shape (samples,).
        bins: number of bins.

    Raises:
        Refused: if a shape or type does not fit, a label is no class, or no sample has finite probabilities.
    """
    import numpy as np

    probabilities, labels = _finite_samples(probabilities, labels)
    confidence = probabilities.max(1)
    gap = confidence - (probabilities.argmax(1) == labels)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(place, gap, bins)).sum() / len(labels))


def _likeliest_beta(logits: Array, labels: Array) -> float:
    """Return the inverse temperature of the greatest likelihood.

    The loss is convex in it, so Newton's steps between shrinking bounds converge.
    """
    import numpy as np

    own = logits[np.arange(len(labels)), labels]
    low, high, beta = 1 / HIGHEST, 1 / LOWEST, 1.0
    for _ in range(_STEPS):
        p = np.exp(_log_softmax(beta * logits))
        mean = (p * logits).sum(1)
        slope = float((mean - own).mean())
        curvature = float((p * (logits - mean[:, None]) ** 2).sum(1).mean())
        if slope == 0:
            break
        low, high = (low, beta) if slope > 0 else (beta, high)
        step = beta - slope / curvature if curvature > 0 else low
        after = step if low < step < high else (low * high) ** 0.5
        done = abs(after - beta) < 1e-7 * beta
        beta = after
        if done:
            break
    return beta


def _log_softmax(logits: Array) -> Array:
    import numpy as np

    shifted = logits - logits.max(1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return found


def _finite_samples(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Check shapes and labels, and return the samples whose scores are finite."""
    import numpy as np

    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or not scores.shape[1] or scores.dtype.kind not in "fiub":
        raise Refused("bad-shape", field="scores", expected="numbers, samples × classes",
                      got=f"{scores.dtype} of shape {scores.shape}")  # fmt: skip
    if labels.shape != (len(scores),) or labels.dtype.kind not in "iub":
        raise Refused("bad-shape", field="labels", expected=f"whole numbers of shape ({len(scores)},)",
                      got=f"{labels.dtype} of shape {labels.shape}")  # fmt: skip
    if len(labels) and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise Refused("bad-label", field="labels", expected=f"classes from 0 to {scores.shape[1] - 1}",
                      got=f"{labels.min()} to {labels.max()}")  # fmt: skip
    finite = np.isfinite(scores).all(1)
    if not finite.any():
        raise Refused("no-samples", field="scores", expected="at least one sample with finite scores",
                      got=f"{len(scores)} samples without")  # fmt: skip
    return scores[finite].astype(float), labels[finite].astype(int)
