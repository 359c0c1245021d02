"""The parts of a scikit-learn model, by what their class learns: weights, statistics, or something to be the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array
from heliograph.frameworks.constants import Constant, digest, labels
from heliograph.frameworks.fitted_state import bytes_of

_LINEAR = frozenset({
    "ARDRegression", "BayesianRidge", "ElasticNet", "GammaRegressor", "HuberRegressor", "Lars", "Lasso", "LassoLars",
    "LinearRegression", "LinearSVC", "LinearSVR", "LogisticRegression", "MultiTaskElasticNet", "MultiTaskLasso",
    "OrthogonalMatchingPursuit", "PassiveAggressiveClassifier", "PassiveAggressiveRegressor", "Perceptron",
    "PoissonRegressor", "QuantileRegressor", "Ridge", "RidgeClassifier", "SGDClassifier", "SGDRegressor",
    "TheilSenRegressor", "TweedieRegressor", "ElasticNetCV", "LarsCV", "LassoCV", "LassoLarsCV", "LassoLarsIC",
    "MultiTaskElasticNetCV", "MultiTaskLassoCV", "OrthogonalMatchingPursuitCV", "RidgeCV", "RidgeClassifierCV",
})  # fmt: skip
"""Estimators that predict from ``coef_`` and ``intercept_`` alone."""
_NETWORKS = frozenset({"MLPClassifier", "MLPRegressor"})
_CLASSES = (
    "Name all classes of the job at every edge, those absent from its rows too: partial_fit(x[:1], y[:1], "
    "classes=[...]) once before the first round, not classes=np.unique(y) of this edge's rows."
)
_COLUMNS = "Give every edge's table the same columns in the same order."

Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def part_of(estimator: Any, name: str, *, last: bool) -> Part | None:
    """Return the part of an estimator by its class; None if its weights are to average and are not known to."""
    names = {kind.__name__ for kind in type(estimator).__mro__ if kind.__module__.partition(".")[0] == "sklearn"}
    if "StandardScaler" in names:
        return ScalerPart(estimator, name)
    if not last:
        return FixedPart(estimator, name)
    if names & _LINEAR:
        return LinearPart(estimator, name)
    return NetworkPart(estimator, name) if names & _NETWORKS else None


class Part(ABC):
    """One estimator; ``name`` says where it is in a pipeline, and is empty for a model of its own."""

    def __init__(self, estimator: Any, name: str) -> None:
        self.estimator = estimator
        self.name = name

    @abstractmethod
    def check_fitted(self) -> None:
        """Raise Refused if it has learned nothing yet."""

    @abstractmethod
    def written(self) -> dict[str, Array]:
        """Return a copy of what it works with."""

    @abstractmethod
    def set(self, arrays: Mapping[str, Array]) -> None:
        """Write arrays of its layout."""

    def get(self) -> dict[str, Array]:
        """Return a copy of what travels."""
        return self.written()

    def layout(self) -> Layout:
        return {name: (array.shape, array.dtype) for name, array in self.written().items()}

    def constants(self) -> dict[str, Constant]:
        found = {}
        for attribute, hint in (("classes_", _CLASSES), ("feature_names_in_", _COLUMNS)):
            values = getattr(self.estimator, attribute, None)
            for index, each in enumerate(values if isinstance(values, list) else [values]):
                if each is not None:
                    found[self.below(attribute if not index else f"{attribute}{index}")] = labels(each, hint)
        return found

    def below(self, attribute: str) -> str:
        return f"{self.name}/{attribute}" if self.name else attribute

    @property
    def place(self) -> str:
        return f"model: step {self.name}" if self.name else "model"


class WeightsPart(Part):
    """An estimator that trains on from weights in arrays of its own."""

    def check_fitted(self) -> None:
        from sklearn.base import is_classifier

        if self._own():
            return
        kind = type(self.estimator).__name__
        if not hasattr(self.estimator, "partial_fit"):
            call = "fit(x, y) once with warm_start=True, on data with every class,"
        elif is_classifier(self.estimator):
            call = "partial_fit(x[:1], y[:1], classes=...) once, with classes= all the classes of the job,"
        else:
            call = "partial_fit(x[:1], y[:1]) once"
        raise Refused(
            "bad-model",
            field=self.place,
            expected="a fitted scikit-learn estimator with coef_ and intercept_, or coefs_ and intercepts_",
            got=f"{kind} without them",
            hint=f"Call {call} before the first round, or before loading a file.",
        )

    def written(self) -> dict[str, Array]:
        return {self.below(name): np.array(array) for name, array in self._own().items()}

    @abstractmethod
    def _own(self) -> dict[str, Array]:
        """Return the estimator's own arrays, by the name of their attribute."""

    def _attribute(self, name: str) -> Any:
        value = getattr(self.estimator, name, None)
        if hasattr(value, "toarray"):
            raise Refused("bad-model", field=self.place, expected=f"{name} as a dense array", got="a sparse one",
                          hint="Call densify() on the estimator.")  # fmt: skip
        return value


class LinearPart(WeightsPart):
    """A linear model. A number (``intercept_`` without an intercept) is a 0-D array."""

    def set(self, arrays: Mapping[str, Array]) -> None:
        for name, own in self._own().items():
            array = arrays[self.below(name)]
            if not isinstance(getattr(self.estimator, name), np.ndarray):
                setattr(self.estimator, name, array.item())
                continue
            if not own.flags.writeable:
                own = own.copy()
                setattr(self.estimator, name, own)
            np.copyto(own, array, casting="same_kind")
            # with average=True an SGD estimator trains on from these hidden arrays and not from coef_
            for hidden in (f"_standard_{name}".rstrip("_"), f"_average_{name}".rstrip("_")):
                copy = getattr(self.estimator, hidden, None)
                if isinstance(copy, np.ndarray) and copy.size == array.size:
                    np.copyto(copy, array.reshape(copy.shape), casting="same_kind")

    def _own(self) -> dict[str, Array]:
        found = {name: self._attribute(name) for name in ("coef_", "intercept_")}
        return {name: np.asarray(value) for name, value in found.items() if value is not None}


class NetworkPart(WeightsPart):
    """A multi-layer perceptron: one array for each layer, named ``coefs_/0`` and so on."""

    def set(self, arrays: Mapping[str, Array]) -> None:
        for name, own in self._own().items():
            np.copyto(own, arrays[self.below(name)], casting="same_kind")

    def _own(self) -> dict[str, Array]:
        return {
            f"{name}/{index}": layer
            for name in ("coefs_", "intercepts_")
            for index, layer in enumerate(self._attribute(name) or ())
        }


class ScalerPart(Part):
    """A StandardScaler, whose statistics are those of all edges' samples from the second round on.

    Each edge sends its own mean and its mean squared distance from a centre that all share: the first global mean. The
    averages of both by samples are exact: the variance of all samples is the second minus the squared distance of the
    mean from the centre. What ``set`` writes is the edge's own statistics no more, so they are kept here.
    """

    def __init__(self, estimator: Any, name: str) -> None:
        super().__init__(estimator, name)
        self._centre: Array | None = None
        self._of_edge: dict[str, Array] = {}
        self._set: dict[str, Array] = {}

    def check_fitted(self) -> None:
        if not hasattr(self.estimator, "scale_"):
            raise Refused("bad-model", field=self.place, expected="a fitted StandardScaler", got="one not fitted",
                          hint="Call its fit(x) on this edge's training rows before the first round.")  # fmt: skip
        if not self._statistics():
            raise Refused("bad-model", field=self.place, expected="a StandardScaler with with_mean or with_std",
                          got="one without both")  # fmt: skip

    def get(self) -> dict[str, Array]:
        present = self._statistics()
        if not self._set or any(not np.array_equal(present[name], self._set[name]) for name in present):
            self._of_edge = present  # fitted by the script, not written by set()
        return self._named(self._of_edge)

    def written(self) -> dict[str, Array]:
        return self._named(self._statistics())

    def set(self, arrays: Mapping[str, Array]) -> None:
        self.get()  # keep the edge's own statistics
        mean, centre = arrays[self.below("mean_")], arrays[self.below("centre")]
        self._centre = np.array(centre, np.float64)
        self.estimator.mean_ = np.array(mean, np.float64)
        if (spread := arrays.get(self.below("spread"))) is not None:
            variance = np.maximum(np.array(spread, np.float64) - (self.estimator.mean_ - self._centre) ** 2, 0.0)
            # as scikit-learn does, a feature that is as good as constant is not scaled
            constant = variance <= 10 * np.finfo(np.float64).eps * np.maximum(spread, self.estimator.mean_**2)
            self.estimator.var_ = variance
            self.estimator.scale_ = np.where(constant, 1.0, np.sqrt(variance))
        self._set = self._statistics()

    def _statistics(self) -> dict[str, Array]:
        found = {name: getattr(self.estimator, name, None) for name in ("mean_", "var_")}
        return {name: np.array(value, np.float64) for name, value in found.items() if value is not None}

    def _named(self, statistics: Mapping[str, Array]) -> dict[str, Array]:
        mean = statistics["mean_"]
        centre = mean if self._centre is None else self._centre
        found = {"mean_": mean.copy(), "centre": centre.copy()}
        if "var_" in statistics:
            found["spread"] = statistics["var_"] + (mean - centre) ** 2
        return {self.below(name): array for name, array in found.items()}


class FixedPart(Part):
    """A step that prepares the data. What it has learned is not combined: it has to be the same at every edge."""

    def check_fitted(self) -> None:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        try:
            check_is_fitted(self.estimator)
        except NotFittedError:
            raise Refused("bad-model", field=self.place, expected="a fitted step",
                          got=f"{type(self.estimator).__name__}, not fitted",
                          hint="Fit the pipeline's steps before the first round.") from None  # fmt: skip

    def written(self) -> dict[str, Array]:
        return {}

    def set(self, arrays: Mapping[str, Array]) -> None:
        """Write nothing: all is constant."""

    def constants(self) -> dict[str, Constant]:
        kind = type(self.estimator).__name__
        hint = (
            f"What {kind} learns cannot be averaged. Fit it on the same rows at every edge, or give it what it would "
            "learn (OneHotEncoder(categories=...), FunctionTransformer), or use StandardScaler, whose statistics are "
            "combined; or transform the data before, outside the pipeline."
        )
        state = bytes_of(self.estimator)
        return super().constants() | ({self.below("fitted"): digest(state, f"{kind} fitted on other rows", hint)})
