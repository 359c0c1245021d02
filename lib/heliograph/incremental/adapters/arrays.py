"""A dict of NumPy arrays as a classifier. Its entries are written in place, and replaced where the head grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import ArraysModel
from heliograph.incremental.adapters.adapter import (
    Array,
    Function,
    LearningAdapter,
    ScoreTerm,
    Terms,
    as_logits,
    softmax,
)
from heliograph.incremental.adapters.heads import known_part, resized
from heliograph.incremental.adapters.own import squares_of_each
from heliograph.incremental.samples import plain

Gradients = Callable[[Array, Array], Mapping[str, Array]]


class ArraysAdapter(LearningAdapter):
    """A dict of arrays and a function that predicts with it.

    Args:
        head: names of the arrays that have an entry for each class, along their last axis, or name to axis; without it
            those of the last array of two axes and of the last one of one axis.
        gradients: gives the gradient of the mean cross-entropy of samples, by the arrays' names; EWC needs it.
    """

    def __init__(
        self, model: MutableMapping[str, Array], predict: Function | None, features: Function | None,
        head: Sequence[str] | Mapping[str, int] | None, gradients: Gradients | None,
    ) -> None:  # fmt: skip
        if predict is None:
            raise Refused("bad-argument", field="predict", expected="a function that gives scores (n, classes) of "
                          "samples, since the model is a dict of arrays", got="none",
                          hint="IncrementalLearning(weights, predict=scores)")  # fmt: skip
        super().__init__(predict, features)
        self._model = model
        self.weights = ArraysModel(model)
        self._gradients = gradients
        self._head = _axes(model, head)

    def count(self) -> int:
        return self.count_in(self._model)

    def count_in(self, arrays: Mapping[str, Array]) -> int:
        name, axis = next(iter(self._head.items()))
        if name not in arrays or arrays[name].ndim != self._model[name].ndim:
            raise Refused("bad-weights", field=name, expected="an array of the head", got="none")
        return int(arrays[name].shape[axis])

    def resize(self, classes: int, rng: np.random.Generator) -> None:
        if classes != self.count():
            self._model.update({name: resized(self._model[name], axis, classes, rng)
                                for name, axis in self._head.items()})  # fmt: skip

    def head(self) -> dict[str, Array]:
        return {name: self._model[name].copy() for name in self._head}

    def with_rows(self, rows: Array, biases: Array) -> dict[str, Array]:
        found = {}
        for name, axis in self._head.items():
            own = self._model[name]
            if own.ndim == 1:
                found[name] = biases.astype(own.dtype)
                continue
            laid = rows if axis == 0 else rows.T
            if laid.shape != own.shape:
                raise Refused("bad-shape", field="features", expected=f"the {own.shape[1 - axis]} features that the "
                              f"head {name} gets", got=f"{rows.shape[1]}")  # fmt: skip
            found[name] = laid.astype(own.dtype)
        return found

    def squared_gradients(self, x: Array, y: Array) -> dict[str, Array]:
        return squares_of_each(self._gradients, x, y)

    def frozen(self) -> Function:
        old = {name: array.copy() for name, array in self._model.items()}

        def logits(x: Any) -> Array:
            present = dict(self._model)
            self._model.update(old)
            try:
                return as_logits(self.scores(plain(x)))
            finally:
                self._model.update(present)

        return logits

    def penalty(self, terms: Terms, x: Any, scores: Any) -> float:
        total = 0.0
        for term in terms.weights:
            for name, importance in term.importance.items():
                away = self._model[name][known_part(self._model[name], importance.shape)] - term.anchor[name]
                total += term.strength / 2 * float((importance * np.square(away)).sum())
        for each in terms.scores:
            old, new = _softened(each, x, scores)
            divergence = old * (np.log(np.clip(old, 1e-12, None)) - np.log(np.clip(new, 1e-12, None)))
            total += each.strength * each.temperature**2 * float(divergence.sum(1).mean())
        return total

    def weight_gradients(self, terms: Terms) -> dict[str, Array]:
        """Return the gradient of the penalty on the weights, by name: zeros where there is none."""
        found = {name: np.zeros_like(array) for name, array in self._model.items()}
        for term in terms.weights:
            for name, importance in term.importance.items():
                part = known_part(found[name], importance.shape)
                found[name][part] += term.strength * importance * (self._model[name][part] - term.anchor[name])
        return found

    def score_gradients(self, terms: Terms, x: Any, scores: Array) -> Array:
        """Return the gradient of the penalty on the logits of a batch, of the mean over its samples."""
        found = np.zeros_like(scores)
        for term in terms.scores:
            old, new = _softened(term, x, scores)
            found[:, term.columns] += term.strength * term.temperature * (new - old) / len(scores)
        return found

    def _scores(self, x: Any) -> Any:
        raise AssertionError("predict is given")

    def _features(self, x: Any) -> Any:
        raise Refused("bad-argument", field="features", expected="a function that gives the features (n, d) of "
                      "samples, on which the head works", got="none",
                      hint="IncrementalLearning(weights, predict=..., features=hidden)")  # fmt: skip


def _softened(term: ScoreTerm, x: Any, scores: Any) -> tuple[Array, Array]:
    old, new = term.old(x)[:, term.columns], plain(scores)[:, term.columns]
    return softmax(old, term.temperature), softmax(new.astype(np.float64), term.temperature)


def _axes(model: Mapping[str, Array], head: Sequence[str] | Mapping[str, int] | None) -> dict[str, int]:
    """Return the axis of the classes by name of a head's array. The first one has two axes, or more."""
    if head is None:
        wide = [name for name, array in model.items() if array.ndim == 2][-1:]
        flat = [name for name, array in model.items()
                if wide and array.ndim == 1 and len(array) == model[wide[0]].shape[-1]][-1:]  # fmt: skip
        head = wide + flat
    given = dict(head) if isinstance(head, Mapping) else dict.fromkeys(head, -1)
    found = {name: axis % model[name].ndim for name, axis in given.items() if name in model and model[name].ndim}
    counts = {model[name].shape[axis] for name, axis in found.items()}
    if len(found) < len(given) or len(counts) != 1:
        raise Refused("bad-argument", field="head", expected="the names of the arrays with an entry for each class",
                      got=list(given) or "no array of two axes",
                      hint="IncrementalLearning(weights, predict=..., head=('w2', 'b2'))")  # fmt: skip
    return dict(sorted(found.items(), key=lambda each: -model[each[0]].ndim))
