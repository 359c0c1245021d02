"""A scikit-learn estimator that goes on from its present weights: ``partial_fit``, or ``fit`` with ``warm_start``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check

_ARRAYS = ("coef_", "intercept_")
"""Linear models: SGDClassifier, SGDRegressor, Perceptron, LogisticRegression, ..."""
_LISTS = ("coefs_", "intercepts_")
"""MLPClassifier, MLPRegressor: one array a layer, named ``coefs_/0`` and so on."""


class SklearnModel:
    """A fitted estimator; all participants need the same classes and features, whatever their data holds of them."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator

    def get(self) -> dict[str, Array]:
        return {name: np.array(array) for name, array in self._arrays().items()}

    def set(self, arrays: Mapping[str, Array]) -> None:
        own = self._arrays()
        check({name: (array.shape, array.dtype) for name, array in own.items()}, arrays)
        for name, array in own.items():
            self._write(name, array, arrays[name])

    def _arrays(self) -> dict[str, Array]:
        """The estimator's own arrays; a number (``intercept_`` without an intercept) is seen as a 0-dim array."""
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
        # with average=True an SGD estimator trains on from these and not from what it shows as coef_
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
            hint=f"Call {call} before the first round; of a Pipeline pass the last step.",
        )
