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


def from_arrays(edge_scores: Array, cloud: Array, labels: Array) -> LabelledSet:
    """Return the labelled set of two classifiers.

    Args:
        edge_scores: the edge's scores, numbers, samples × classes. The first class with the highest score is the
            answer; a row with NaN or infinity counts as a wrong answer.
        cloud: the deep model's scores, samples × classes, or its answers, whole numbers, shape (samples,).
        labels: the right class of each sample, whole numbers from 0 to classes - 1, shape (samples,).

    Raises:
        Refused: if a shape or type does not fit, a label is no class, or there is no sample.
    """
    if edge_scores.ndim != 2 or not edge_scores.shape[1] or edge_scores.dtype.kind not in "fiu":
        raise Refused("bad-shape", field="edge_scores", expected="numbers, samples × classes",
                      got=f"{edge_scores.dtype} of shape {edge_scores.shape}")  # fmt: skip
    samples, classes = edge_scores.shape
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise Refused("bad-shape", field="labels", expected=f"whole numbers of shape ({samples},)",
                      got=f"{labels.dtype} of shape {labels.shape}")  # fmt: skip
    if samples and not 0 <= labels.min() <= labels.max() < classes:
        raise Refused("bad-label", field="labels", expected=f"classes from 0 to {classes - 1}",
                      got=f"{labels.min()} to {labels.max()}")  # fmt: skip
    scored = cloud.ndim == 2 and cloud.shape == (samples, classes) and cloud.dtype.kind in "fiu"
    if not scored and not (cloud.shape == (samples,) and cloud.dtype.kind in "iu"):
        raise Refused("bad-shape", field="cloud_scores" if cloud.ndim == 2 else "cloud_labels",
                      expected=f"scores of shape ({samples}, {classes}), or whole numbers of shape ({samples},)",
                      got=f"{cloud.dtype} of shape {cloud.shape}")  # fmt: skip
    answers = _answers(cloud) if scored else cloud
    return LabelledSet(edge_scores, _answers(edge_scores) == labels, answers == labels, labels.astype(np.int64))


def read_labelled(file: Path) -> LabelledSet:
    """Read a labelled set from an npz file; nothing in the file is unpickled.

    The file has the arrays ``edge_scores``, ``labels``, and ``cloud_scores`` or ``cloud_labels``, as in
    ``from_arrays``; further arrays are ignored.

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
        return from_arrays(found["edge_scores"], cloud, found["labels"])
    except Refused as error:
        raise Refused(error.code, topic=str(file), field=error.field, expected=error.expected, got=error.got) from None


_NAMES = ("edge_scores", "cloud_scores", "cloud_labels", "labels")


def _answers(scores: Array) -> Array:
    """Return the class of each row's highest score; -1, which is never right, if a score is not finite."""
    found: Array = np.where(np.isfinite(scores).all(1), scores.argmax(1), -1)
    return found


def as_rows(scores: Array | Iterable[Any]) -> list[Any]:
    """Return the scores of each sample as a list: rules read lists faster than arrays."""
    return scores.tolist() if isinstance(scores, np.ndarray) else list(scores)
