"""A scikit-learn classifier with ``partial_fit``, alone or at the end of a pipeline. Its head grows in place.

Linear models have a row of ``coef_`` for each class, and an MLPClassifier a column of its last layer. Of two classes
both have one row, which becomes two where a third class comes. A class is its index: ``classes_`` is 0, 1, 2, …
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from heliograph.bus.contract.weights_file import CONSTANT
from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.incremental.adapters.adapter import Array, Function, LearningAdapter
from heliograph.incremental.adapters.heads import resized
from heliograph.incremental.samples import plain

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "logistic": lambda x: 1 / (1 + np.exp(-np.clip(x, -500, 500))),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}


class SklearnAdapter(LearningAdapter):
    """A linear classifier or an MLPClassifier; one that is not fitted yet gets its classes with the first samples."""

    def __init__(self, model: Any, predict: Function | None, features: Function | None) -> None:
        super().__init__(predict, features)
        self._model = model
        self.weights = adapter_for(model)
        steps = getattr(model, "steps", None)
        self._prefix = f"{steps[-1][0]}/" if steps else ""
        names = {kind.__name__ for kind in type(self._last).__mro__}
        self._is_network = "MLPClassifier" in names
        if not hasattr(self._last, "predict") or "ClassifierMixin" not in names:
            raise Refused("bad-model", field="model", expected="a classifier of scikit-learn",
                          got=type(self._last).__name__)  # fmt: skip

    def prepare(self, classes: int, x: Array | None = None, arrays: Mapping[str, Array] | None = None) -> None:
        last = self._last
        if not hasattr(last, "classes_"):
            if not hasattr(last, "partial_fit"):
                raise Refused("bad-model", field="model", expected="a fitted estimator, or one with partial_fit",
                              got=f"{type(last).__name__}, not fitted")  # fmt: skip
            named = np.arange(max(classes, 2))
            last.partial_fit(self._one_row(x, arrays), named[:1], classes=named)
        if not np.array_equal(last.classes_, np.arange(len(last.classes_))):
            raise Refused("bad-model", field="classes_", expected="0, 1, 2, …: the index of each class",
                          got=plain(last.classes_).tolist()[:20],
                          hint="Let the first fit be partial_fit(round.x, round.y): round.y has indices.")  # fmt: skip

    def count(self) -> int:
        return len(self._last.classes_)

    def count_in(self, arrays: Mapping[str, Array]) -> int:
        name = f"{CONSTANT}{self._prefix}classes_"
        if name not in arrays:
            raise Refused("bad-weights", field=name, expected="the classes of a scikit-learn classifier", got="none")
        return len(arrays[name])

    def resize(self, classes: int, rng: np.random.Generator) -> None:
        last, have = self._last, self.count()
        if classes == have:
            return
        if classes < 2:
            raise Refused("bad-model", field="classes", expected="2 classes or more, as scikit-learn needs",
                          got=classes)  # fmt: skip
        rows, biases = self._rows()
        rows, biases = resized(rows, 0, classes, rng), resized(biases, 0, classes, rng)
        if classes == 2:
            rows, biases = self._as_one(rows), self._as_one(biases)
        last.classes_ = np.arange(classes)
        if self._is_network:
            from sklearn.preprocessing import LabelBinarizer

            last.coefs_[-1], last.intercepts_[-1] = np.asfortranarray(rows.T), biases
            last.n_outputs_ = len(biases)
            last.out_activation_ = "logistic" if classes == 2 else "softmax"
            last._label_binarizer = LabelBinarizer().fit(last.classes_)
            if hasattr(last, "_optimizer"):
                del last._optimizer  # it has the shapes of the old head; the next partial_fit makes another
            return
        last.coef_, last.intercept_ = np.ascontiguousarray(rows), biases
        if getattr(last, "average", 0):  # what an averaged SGD trains on from, and its running mean
            last._standard_coef, last._standard_intercept = last.coef_.copy(), last.intercept_.copy()
            last._average_coef, last._average_intercept = last.coef_.copy(), last.intercept_.copy()
            last.t_ = 1.0  # the mean over all steps so far would hold the new rows back

    def head(self) -> dict[str, Array]:
        present = self.weights.get()
        return {name: present[name] for name in self._names()}

    def with_rows(self, rows: Array, biases: Array) -> dict[str, Array]:
        own = self.head()
        given, bias = (self._as_one(rows), self._as_one(biases)) if len(rows) == 2 else (rows, biases)
        wide, flat = self._names()
        laid = given.T if self._is_network else given
        if laid.shape != own[wide].shape:
            raise Refused("bad-shape", field="features", expected=f"features for a head of shape {own[wide].shape}",
                          got=f"{rows.shape[1]} features")  # fmt: skip
        return {wide: laid.astype(own[wide].dtype), flat: bias.astype(own[flat].dtype)}

    def frozen(self) -> Function:
        raise Refused("bad-argument", field="strategy", expected="a model that trains with a loss of the script's own",
                      got=type(self._last).__name__, hint="LwF takes models of PyTorch and Keras, and dicts of arrays; "
                      "replay takes every model.")  # fmt: skip

    @property
    def _last(self) -> Any:
        steps = getattr(self._model, "steps", None)
        return steps[-1][1] if steps else self._model

    def _scores(self, x: Any) -> Any:
        if not hasattr(self._model, "decision_function"):
            return self._model.predict_proba(x)
        # the margins decide; the probabilities of a class against the others are all 1 where they are far
        margins = self._model.decision_function(x)
        return np.stack([-margins, margins], 1) if margins.ndim == 1 else margins

    def _features(self, x: Any) -> Any:
        hidden = self._prepared(x)
        hidden = hidden.toarray() if hasattr(hidden, "toarray") else np.asarray(hidden)
        if self._is_network:
            activation = _ACTIVATIONS[self._last.activation]
            for weights, biases in list(zip(self._last.coefs_, self._last.intercepts_, strict=True))[:-1]:
                hidden = activation(hidden @ weights + biases)
        return hidden

    def _prepared(self, x: Any) -> Any:
        """Return samples as the steps before the last one make them."""
        steps = getattr(self._model, "steps", None)
        return self._model[:-1].transform(x) if steps and len(steps) > 1 else x

    def _one_row(self, x: Array | None, arrays: Mapping[str, Array] | None) -> Any:
        if x is not None:
            return self._prepared(x[:1])
        wide = (arrays or {}).get(f"{self._prefix}coefs_/0" if self._is_network else f"{self._prefix}coef_")
        if wide is None or wide.ndim != 2:
            raise Refused("bad-weights", field="coef_", expected="the weights of such a classifier", got="none")
        return np.zeros((1, wide.shape[0 if self._is_network else 1]), wide.dtype)

    def _names(self) -> tuple[str, str]:
        if not self._is_network:
            return f"{self._prefix}coef_", f"{self._prefix}intercept_"
        layer = len(self._last.coefs_) - 1
        return f"{self._prefix}coefs_/{layer}", f"{self._prefix}intercepts_/{layer}"

    def _rows(self) -> tuple[Array, Array]:
        """Return the head's rows and biases with one of each for every class, also where there are two classes."""
        last = self._last
        rows = last.coefs_[-1].T if self._is_network else np.asarray(last.coef_)
        biases = last.intercepts_[-1] if self._is_network else np.broadcast_to(last.intercept_, len(rows))
        if self.count() > 2:
            return rows, biases
        # a sigmoid of one output is a softmax of that and 0; a margin decides for one class and against the other
        first = 0.0 if self._is_network else -1.0
        return np.concatenate([first * rows, rows]), np.concatenate([first * biases, biases])

    def _as_one(self, pair: Array) -> Array:
        """Return the one row, or bias, of two classes."""
        difference: Array = pair[1:] - pair[:1]
        return difference if self._is_network else difference / 2
