"""A labelled set: the answers of both models to samples with known labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.core.errors import HeliographError, Refused

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelledSet:
    """The edge's scores of each sample, and whether each model answers it correctly.

    A detector's images have boxes instead of a class: construct the set from lists of confidences and your own
    judgement of each answer.

    Attributes:
        edge_scores: the edge's scores: samples × classes, or for each sample a list of its boxes' confidences.
        edge_correct, cloud_correct: whether each model is right, bool, shape (samples,).
        labels: the right classes, int64, shape (samples,); calibration needs them. None for detectors.

    Raises:
        Refused: if there is no sample, or a shape or type does not fit.
    """

    edge_scores: Array | list[Any]
    edge_correct: Array
    cloud_correct: Array
    labels: Array | None = None

    def __post_init__(self) -> None:
        samples = len(self.edge_scores)
        if not samples:
            raise Refused("no-samples", field="edge_scores", expected="at least one sample", got="none")
        for name in ("edge_correct", "cloud_correct"):
            array = np.asarray(getattr(self, name))
            if array.shape != (samples,) or array.dtype != bool:
                raise Refused("bad-shape", field=name, expected=f"bool of shape ({samples},), one for each sample",
                              got=f"{array.dtype} of shape {array.shape}")  # fmt: skip


def from_arrays(edge_scores: Array, cloud: Array, labels: Array, classes: Array | None = None) -> LabelledSet:
    """Return the labelled set of two classifiers.

    Args:
        edge_scores: the edge's scores, numbers, samples × classes; of two classes also the probability of the second
            alone, shape (samples,) or (samples, 1). The first class with the highest score is the answer; a row with
            NaN or infinity counts as a wrong answer.
        cloud: the deep model's scores, as the edge's, or its answers, shape (samples,).
        labels: the right class of each sample, shape (samples,).
        classes: the label of each score, numbers or texts, as an estimator's ``classes_``, shape (classes,); labels and
            answers are among them. Without it they are whole numbers from 0 to classes - 1.

    Raises:
        Refused: if a shape or type does not fit, a label is no class, or there is no sample.
    """
    edge_scores = _two_columns(edge_scores, "edge_scores")
    if classes is not None:
        cloud = cloud if cloud.ndim == 2 or cloud.dtype.kind == "f" else _places(cloud, classes, "cloud_labels")
        labels = _places(labels, classes, "labels")
    if cloud.dtype.kind == "f":
        cloud = _two_columns(cloud, "cloud_scores")
    if edge_scores.ndim != 2 or not edge_scores.shape[1] or edge_scores.dtype.kind not in "fiu":
        raise Refused("bad-shape", field="edge_scores", expected="numbers, samples × classes",
                      got=f"{edge_scores.dtype} of shape {edge_scores.shape}")  # fmt: skip
    samples, number = edge_scores.shape
    if classes is not None and len(classes) != number:
        raise Refused("bad-shape", field="classes", expected=f"{number} labels, one for each of edge_scores' columns",
                      got=f"{len(classes)}")  # fmt: skip
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise Refused("bad-shape", field="labels", expected=f"whole numbers of shape ({samples},)",
                      got=f"{labels.dtype} of shape {labels.shape}", hint=_CLASSES)  # fmt: skip
    if samples and not 0 <= labels.min() <= labels.max() < number:
        raise Refused("bad-label", field="labels", expected=f"classes from 0 to {number - 1}",
                      got=f"{labels.min()} to {labels.max()}", hint=_CLASSES)  # fmt: skip
    scored = cloud.ndim == 2 and cloud.shape == (samples, number) and cloud.dtype.kind in "fiu"
    if not scored and not (cloud.shape == (samples,) and cloud.dtype.kind in "iu"):
        raise Refused("bad-shape", field="cloud_scores" if cloud.ndim == 2 else "cloud_labels",
                      expected=f"scores of shape ({samples}, {number}), or whole numbers of shape ({samples},)",
                      got=f"{cloud.dtype} of shape {cloud.shape}")  # fmt: skip
    answers = _answers(cloud) if scored else cloud
    return LabelledSet(edge_scores, _answers(edge_scores) == labels, answers == labels, labels.astype(np.int64))


def read_labelled(file: Path) -> LabelledSet:
    """Read a labelled set from an npz file; nothing in the file is unpickled.

    The file has the arrays ``edge_scores``, ``labels``, and ``cloud_scores`` or ``cloud_labels``, and where labels are
    not 0, 1, 2, … the array ``classes``, as in ``from_arrays``; further arrays are ignored.

    Raises:
        HeliographError: if the file cannot be read.
        Refused: naming the file, if it is no npz file, or an array is missing or does not fit.
    """
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("a single array")
        with loaded as arrays:
            found = {name: arrays[name] for name in _NAMES if name in arrays}
            names = ", ".join(arrays.files)
    except OSError as error:
        raise HeliographError(f"cannot read {file}: {error.strerror or error}") from None
    except Exception as error:  # NumPy and zipfile raise many on damaged files: TokenError, NotImplementedError, …
        raise Refused("not-npz", topic=str(file), expected="an npz file of plain arrays", got=str(error),
                      hint="Write it with numpy.savez.") from None  # fmt: skip
    cloud = next((found[name] for name in ("cloud_scores", "cloud_labels") if name in found), None)
    missing = [name for name in ("edge_scores", "labels") if name not in found]
    if cloud is None:
        missing.append("cloud_scores or cloud_labels")
    if cloud is None or missing:
        raise Refused("missing-array", topic=str(file), field=missing[0], expected="an array of this name",
                      got=f"the arrays {names}" if names else "no array at all")  # fmt: skip
    try:
        return from_arrays(found["edge_scores"], cloud, found["labels"], found.get("classes"))
    except Refused as error:
        raise error.about(str(file)) from None


_NAMES = ("edge_scores", "cloud_scores", "cloud_labels", "labels", "classes")
_CLASSES = "For other labels write the array classes: the label of each score, such as an estimator's classes_."


def _two_columns(scores: Array, name: str) -> Array:
    """Return both classes' probabilities where an array has those of the second alone."""
    if scores.dtype.kind != "f" or not (scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1)):
        return scores
    second = scores.reshape(-1)
    known = second[np.isfinite(second)]
    if len(known) and not 0 <= known.min() <= known.max() <= 1:
        raise Refused("not-probabilities", field=name, expected="probabilities of the second class, 0 to 1",
                      got=f"{known.min():g} to {known.max():g}",
                      hint="Put a sigmoid behind the model. A regression has no classes to tune on.")  # fmt: skip
    return np.stack([1 - second, second], axis=1)


def _places(labels: Array, classes: Array, name: str) -> Array:
    """Return the index of each label in ``classes``."""
    known = {label: place for place, label in enumerate(classes.tolist())}
    try:
        return np.array([known[label] for label in labels.tolist()], np.int64)
    except (KeyError, TypeError):
        strange = next((label for label in np.ravel(labels).tolist() if label not in known), None)
        raise Refused("bad-label", field=name, expected=f"one of {', '.join(map(str, list(known)[:16]))}",
                      got=strange) from None  # fmt: skip


def _answers(scores: Array) -> Array:
    """Return the class of each row's highest score; -1, which is never right, if a score is not finite."""
    found: Array = np.where(np.isfinite(scores).all(1), scores.argmax(1), -1)
    return found


def as_rows(scores: Array | Iterable[Any]) -> list[Any]:
    """Return the scores of each sample as a list: rules read lists faster than arrays."""
    return scores.tolist() if isinstance(scores, np.ndarray) else list(scores)
