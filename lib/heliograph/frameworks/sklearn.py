"""The adapter for a scikit-learn estimator that trains on from its weights (``partial_fit``, or ``warm_start``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check_fit

_ARRAYS = ("coef_", "intercept_")
"""Attributes of linear models: SGDClassifier, SGDRegressor, Perceptron, LogisticRegression, ..."""
_LISTS = ("coefs_", "intercepts_")
"""Attributes of MLPClassifier and MLPRegressor: one array for each layer, named ``coefs_/0`` and so on."""


class SklearnModel:
    """A fitted estimator. All participants need the same classes and features, even those absent from their data."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator

    def get(self) -> dict[str, Array]:
        return {name: np.array(array) for name, array in self._arrays().items()}

    def set(self, arrays: Mapping[str, Array]) -> None:
        own = self._arrays()
        check_fit({name: (array.shape, array.dtype) for name, array in own.items()}, arrays)
        for name, array in own.items():
            self._write(name, array, arrays[name])

    def _arrays(self) -> dict[str, Array]:
        """Return the estimator's own arrays; a number (``intercept_`` without an intercept) becomes a 0-D array."""
        found = {name: np.asarray(getattr(self._estimator, name)) for name in _ARRAYS if self._has(name)}
        for name in _LISTS:
            if self._has(name):
                layers = getattr(self._estimator, name)
                found |= {f"{name}/{index}": layer for index, layer in enumerate(layers)}
        if not found:
            raise self._not_fitted()
        return found

    def _has(self, name: str) -> bool:
        return getattr(self._estimator, name, None) is not None

    def _write(self, name: str, own: Array, array: Array) -> None:
        if name in _ARRAYS and not isinstance(getattr(self._estimator, name), np.ndarray):
            setattr(self._estimator, name, array.item())
            return
        np.copyto(own, array, casting="same_kind")
        # with average=True an SGD estimator trains on from these hidden arrays and not from coef_
        for hidden in (f"_standard_{name}".rstrip("_"), f"_average_{name}".rstrip("_")):
            copy = getattr(self._estimator, hidden, None)
            if isinstance(copy, np.ndarray) and copy.size == array.size:
                np.copyto(copy, array.reshape(copy.shape), casting="same_kind")

    def _not_fitted(self) -> Refused:
        from sklearn.base import is_classifier

        kind = type(self._estimator).__name__
        if not hasattr(self._estimator, "partial_fit"):
            call = "fit(x, y) once with warm_start=True, on data with every class,"
        elif is_classifier(self._estimator):
            call = "partial_fit(x[:1], y[:1], classes=...) once, with classes= all the classes of the job,"
        else:
            call = "partial_fit(x[:1], y[:1]) once"
        return Refused(
            "bad-model",
            field="model",
            expected="a fitted scikit-learn estimator with coef_ and intercept_, or coefs_ and intercepts_",
            got=f"{kind} without them",
            hint=f"Call {call} before the first round. For a Pipeline, pass its last step.",
        )
