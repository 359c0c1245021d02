"""One task of a lifelong model: its own model, the classes that it knows, and what its samples look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.incremental.adapters.adapter import as_logits, softmax
from heliograph.incremental.samples import plain
from heliograph.lifelong import attributes as attribute_texts
from heliograph.lifelong.familiarity import Familiarity

if TYPE_CHECKING:
    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.lifelong.attributes import Attributes

Array = np.ndarray[Any, Any]
Features = Callable[[Any, Array], Any]
MAX_FEATURES = 16_384
"""Numbers of a sample whose distance is measured, at most: a task keeps some twenty means and axes of that length."""
WEIGHTS = "weights/"
"""Prefix of the names of the task's own model's weights."""
_PARTS = ("means", "axes", "variances", "limits")
_CALIBRATED = 5
"""One of so many samples sets the limits, and trains nothing: a model is too sure of what it has been trained on."""


@dataclass(eq=False)
class LearnedTask:
    """A task and its model.

    Attributes:
        attributes: what its samples are; empty for a task that was found by its samples alone.
        classes: indices of the classes that it knows, rising.
    """

    attributes: Attributes
    classes: tuple[int, ...]
    model: Any
    adapter: LearningAdapter
    familiarity: Familiarity
    features_of: Features | None = None

    def resize(self, classes: int, rng: np.random.Generator) -> None:
        """Give the model a row for each of ``classes`` classes."""
        if self.adapter.count() != classes:
            self.adapter.resize(classes, rng)

    def probabilities(self, x: Array, count: int) -> Array:
        """Return the probability (n, count) of each class; of those that the task does not know 0."""
        logits = as_logits(self.adapter.scores(x))
        if logits.shape[1] < count:
            raise Refused("bad-model", field="make", expected=f"scores of {count} classes", got=logits.shape[1],
                          hint="A model of your own needs resize(classes).")  # fmt: skip
        if not np.isfinite(logits).all():
            raise Refused("model-failed", field="scores", expected="finite scores of the task's model",
                          got="NaN or infinity")  # fmt: skip
        found = np.zeros((len(x), count))
        known = list(self.classes)
        found[:, known] = softmax(logits[:, known])
        return found

    def features(self, x: Array) -> Array:
        """Return the features (n, d) whose distance is measured: the samples' own numbers, or those of the hook."""
        given = x if self.features_of is None else plain(self.features_of(self.model, x))
        if len(given) != len(x) or given[:1].size > MAX_FEATURES:
            raise Refused("bad-shape", field="features", expected=f"up to {MAX_FEATURES:,} numbers for each of "
                          f"{len(x)} samples", got=f"shape {given.shape}", hint="LifelongModel(features=...) gives "
                          "fewer, such as those before the model's last layer.")  # fmt: skip
        return given.reshape(len(x), -1)

    def unknown(self, x: Array, probabilities: Array) -> Array:
        """Return how little each sample is known; see ``Familiarity.unknown``."""
        return self.familiarity.unknown(self.features(x), probabilities.max(1, initial=0.0))

    def arrays(self) -> dict[str, Array]:
        """Return the task's part of the model's file."""
        found = {WEIGHTS + name: array for name, array in self.adapter.weights.get().items()}
        found |= {name: getattr(self.familiarity, name).copy() for name in _PARTS}
        found["classes"] = np.array(self.classes, np.int32)
        found["attributes"] = np.frombuffer(attribute_texts.written(self.attributes), np.uint8).copy()
        return found


def learned(
    model: Any, adapter: LearningAdapter, train: Callable[[Any, Array, Array], Any], features_of: Features | None,
    attributes: Attributes, x: Array, y: Array, order: Array, count: int, before: LearnedTask | None = None,
) -> LearnedTask:  # fmt: skip
    """Train a task's model on samples, and return the task.

    Args:
        order: places of the samples in an order that depends on their contents alone, so that a round that is trained
            again sets the same samples aside.
        count: number of all classes.
        before: the task so far, whose classes are kept.
    """
    aside = np.zeros(len(y), bool)
    aside[order[_CALIBRATED // 2 :: _CALIBRATED]] = True
    aside &= np.isin(y, y[~aside])  # a class's only samples train
    kept = {} if before is None else dict(zip(before.classes, before.familiarity.means, strict=True))
    train(model, x[~aside], y[~aside])
    names = tuple(sorted({*np.unique(y).tolist(), *kept}))
    task = LearnedTask(attributes, names, model, adapter, None, features_of)  # type: ignore[arg-type]
    task.familiarity = Familiarity.of(task.features(x[~aside]), y[~aside], kept)
    confidence = task.probabilities(x[aside], count).max(1, initial=0.0)
    task.familiarity = task.familiarity.limited(task.features(x[aside]), confidence)
    return task


def read(
    arrays: Mapping[str, Array], prefix: str, model: Any, adapter: LearningAdapter, features_of: Features | None,
    count: int,
) -> LearnedTask:  # fmt: skip
    """Return the task that a part of a file describes, and write its weights into a new model.

    Raise Refused where the part is none of a task of such a model.
    """
    weights = {name.removeprefix(WEIGHTS): array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    strange = sorted(arrays.keys() - {WEIGHTS + name for name in weights} - {*_PARTS, "classes", "attributes"})
    for name in (*_PARTS, "classes", "attributes"):
        if name not in arrays:
            raise _misfit(prefix + name, "an array of this name", "none")
    if strange:
        raise _misfit(prefix + strange[0], "the arrays of a task", "an array of this name")
    classes, texts = arrays["classes"], arrays["attributes"]
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or not _rising(classes.tolist(), count):
        raise _misfit(f"{prefix}classes", f"indices of classes, rising, below {count}", f"{classes.tolist()[:20]}")
    if texts.ndim != 1 or texts.dtype != np.uint8:
        raise _misfit(f"{prefix}attributes", "bytes of JSON", f"{texts.dtype} {texts.shape}")
    familiarity = _familiarity(arrays, prefix, len(classes))
    try:
        adapter.prepare(count, arrays=weights)
        adapter.resize(count, np.random.default_rng(0))  # every row is overwritten
        adapter.weights.set(weights)
    except Refused as error:
        raise Refused(error.code, topic=error.topic, field=f"{prefix}{WEIGHTS}{error.field}", expected=error.expected,
                      got=error.got, hint=error.hint) from None  # fmt: skip
    found = attribute_texts.read(texts.tobytes(), f"{prefix}attributes")
    return LearnedTask(found, tuple(classes.tolist()), model, adapter, familiarity, features_of)


def _familiarity(arrays: Mapping[str, Array], prefix: str, classes: int) -> Familiarity:
    means, axes = arrays["means"], arrays["axes"]
    width = means.shape[1] if means.ndim == 2 else 0
    count = len(axes) if axes.ndim == 2 else 0
    wanted = {"means": (classes, width), "axes": (count, width), "variances": (count + 1,), "limits": (2,)}
    for name, shape in wanted.items():
        each = arrays[name]
        if each.dtype.kind != "f" or each.shape != shape or not width:
            raise _misfit(prefix + name, f"numbers of shape {shape}", f"{each.dtype} {each.shape}")
        if not np.isfinite(each).all() or (name in ("variances", "limits") and not (each > 0).all()):
            raise _misfit(prefix + name, "finite numbers, of variances and limits above 0", "others")
    return Familiarity(*(arrays[name].astype(np.float32) for name in _PARTS))


def _rising(classes: list[int], count: int) -> bool:
    return bool(classes) and classes == sorted(set(classes)) and classes[0] >= 0 and classes[-1] < count


def _misfit(field: str, expected: str, got: str) -> Refused:
    return Refused("bad-weights", field=field, expected=expected, got=got,
                   hint="The file is no version of this lifelong model: build it as the training script "
                   "does.")  # fmt: skip
