"""An object of the user's own as a classifier: it has ``get()`` and ``set(arrays)``, and sees to its head itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.incremental.adapters.adapter import Array, Function, LearningAdapter, as_logits
from heliograph.incremental.samples import plain


class OwnAdapter(LearningAdapter):
    """An object with ``get()`` and ``set(arrays)``, and ``predict(x)`` unless ``predict`` is given.

    Where it has ``resize(classes)`` that is called before a round with more classes; ``set`` takes weights of any
    number of classes then. ``features(x)`` is used where the object has it.
    """

    def __init__(self, model: Any, predict: Function | None, features: Function | None, gradients: Any) -> None:
        super().__init__(predict, features)
        self._model = model
        self.weights = adapter_for(model)
        self._gradients = gradients
        if predict is None and not hasattr(model, "predict") and not callable(model):
            raise Refused("bad-argument", field="predict", expected="a function that gives scores (n, classes) of "
                          "samples, since the model has no predict(x)", got="none")  # fmt: skip

    def count(self) -> int:
        return 0

    def count_in(self, arrays: Mapping[str, Array]) -> int:
        return 0

    def resize(self, classes: int, rng: np.random.Generator) -> None:
        if classes and hasattr(self._model, "resize"):
            self._model.resize(classes)

    def head(self) -> dict[str, Array]:
        raise self._no_head()

    def with_rows(self, rows: Array, biases: Array) -> dict[str, Array]:
        raise self._no_head()

    def squared_gradients(self, x: Array, y: Array) -> dict[str, Array]:
        return squares_of_each(self._gradients, x, y)

    def frozen(self) -> Function:
        if self._given_predict is not None:
            raise Refused("bad-argument", field="predict", expected="a model with predict(x) of its own, of which LwF "
                          "keeps a copy", got="a function beside it")  # fmt: skip
        old = OwnAdapter(copy.deepcopy(self._model), None, None, None)
        return lambda x: as_logits(old.scores(plain(x)))

    def _scores(self, x: Any) -> Any:
        return self._model.predict(x) if hasattr(self._model, "predict") else self._model(x)

    def _features(self, x: Any) -> Any:
        if not hasattr(self._model, "features"):
            raise self._no_head()
        return self._model.features(x)

    def _no_head(self) -> Refused:
        return Refused("bad-argument", field="strategy", expected="a model of a framework, whose head is known, for "
                       "ICaRL", got=type(self._model).__name__, hint="Replay takes every model.")  # fmt: skip


def squares_of_each(gradients: Any, x: Array, y: Array) -> dict[str, Array]:
    """Return the mean over samples of the squared gradient of each one, by name.

    Args:
        gradients: gives the gradients of the mean cross-entropy of samples, by the weights' names.
    """
    if gradients is None:
        raise Refused("bad-argument", field="gradients", expected="a function that gives the gradients of samples, by "
                      "the weights' names: EWC needs them", got="none",
                      hint="IncrementalLearning(weights, predict=..., gradients=gradients)")  # fmt: skip
    total: dict[str, Array] = {}
    for place in range(len(x)):
        for name, gradient in gradients(x[place : place + 1], y[place : place + 1]).items():
            total[name] = total.get(name, 0) + np.square(plain(gradient), dtype=np.float64)
    return {name: each / max(len(x), 1) for name, each in total.items()}
