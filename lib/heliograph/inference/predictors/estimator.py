"""An estimator of scikit-learn's interface as a model: classifiers by probability or by margin, and regressors.

Its ``classes_`` are the labels. A sample is an array, a text, or a row of named columns, as the estimator was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.inference.predictors.outputs import HOOK, SUM_WITHIN, ModelOutput, Reading, plain_label, softmax
from heliograph.inference.predictors.predictor import Predictor, Prepared
from heliograph.inference.predictors.samples import columns_in, has_arrays, sample_array

_BY_ITS_OWN = {"SVC", "NuSVC", "FixedThresholdClassifier", "TunedThresholdClassifierCV"}
"""Classifiers whose answer is not always the class of the highest probability."""
_COLUMNS = "columns"
"""The kind of a sample with a value for each of the estimator's named columns."""


class EstimatorPredictor(Predictor):
    """A classifier or a regressor, alone or at the end of a pipeline."""

    def __init__(self, model: Any, reading: Reading) -> None:
        super().__init__(reading)
        self._model = model

    def prepare(self, x: Any) -> Prepared:
        names = self._column_names()
        if isinstance(x, str):
            if self._takes_arrays():
                raise self._other_form("a text", names)
            return Prepared(x, str)
        if (row := columns_in(x)) is not None:
            if has_arrays(row):
                raise self._other_form("several inputs, arrays among them", names)
            if names is not None:
                return Prepared([_plain(row[name]) for name in self._checked(row, names)], _COLUMNS)
            if not self._takes_arrays():  # a vectoriser of mappings
                return Prepared(dict(row), dict)
            if isinstance(x, Mapping):
                raise self._other_form("named columns", names)
            x = list(row.values())  # a Series or a DataFrame keeps the order of its columns
        array = sample_array(x).reshape(-1)
        if names is not None and len(names) == len(array):
            return Prepared(array.tolist(), _COLUMNS)
        return Prepared(array, (array.dtype.str, array.shape))

    def example(self) -> Prepared | None:
        number = getattr(self._model, "n_features_in_", None)
        return None if number is None else self.prepare(np.zeros(number, np.float32))

    def _outputs(self, samples: Sequence[Prepared]) -> ModelOutput:
        model, given = self._model, self._batch(samples)
        found: Any = getattr(model, "classes_", None)
        one_output = found is not None and all(np.ndim(each) == 0 for each in found)
        classes = tuple(map(plain_label, found)) if one_output else None
        if hasattr(model, "predict_proba"):
            rows = model.predict_proba(given)
            if self._reading.scores is None:
                rows = self._probabilities(rows)
            own = bool(_BY_ITS_OWN & {kind.__name__ for kind in type(_last_step(model)).__mro__})
            return ModelOutput(rows, lambda: "probabilities", classes, model.predict(given) if own else None)
        if hasattr(model, "decision_function"):
            margins = model.decision_function(given)
            if self._reading.scores is not None:
                return ModelOutput(margins, classes=classes)
            rows = _from_margins(np.asarray(margins))
            return ModelOutput(rows, classes=classes, labels=model.predict(given))
        return ModelOutput(model.predict(given), lambda: "values" if found is None else "labels", classes)

    def _batch(self, samples: Sequence[Prepared]) -> Any:
        batch = [each.value for each in samples]
        if samples[0].kind != _COLUMNS:
            return np.stack(batch) if isinstance(batch[0], np.ndarray) else batch
        names = self._column_names()
        try:  # the user's own: the estimator was fitted on its tables
            pandas = import_module("pandas")
        except ImportError:
            return np.asarray(batch)
        return pandas.DataFrame(batch, columns=names)

    def _probabilities(self, rows: Any) -> Any:
        if isinstance(rows, list) and rows and np.ndim(rows[0]) == 2:
            raise Refused("bad-scores", field="scores", expected="one row of scores for each sample",
                          got=f"{len(rows)} outputs, each with its own classes",
                          hint=HOOK.format(part="output[0]"))  # fmt: skip
        found = np.asarray(rows)
        if self._reading.after is None and found.ndim == 2 and (abs(found.sum(1) - 1) > SUM_WITHIN).any():
            raise Refused("bad-scores", field="after", expected="scores of which one class is right, with the sum 1",
                          got="probabilities of several classes at once",
                          hint="Give after= to make the result from one row of scores.")  # fmt: skip
        return rows

    def _column_names(self) -> list[str] | None:
        """Return the names of the columns that the estimator was fitted on; None for one fitted on arrays."""
        try:
            found = self._model.feature_names_in_
        except AttributeError:
            return None
        return None if found is None else list(map(str, found))

    def _takes_arrays(self) -> bool:
        return getattr(self._model, "n_features_in_", None) is not None

    def _checked(self, row: Mapping[str, Any], names: list[str]) -> list[str]:
        missing = [name for name in names if name not in row]
        unknown = [name for name in row if name not in names]
        if missing or unknown:
            got = [f"no {', '.join(missing[:8])}"] if missing else []
            got += [f"{', '.join(unknown[:8])} besides"] if unknown else []
            raise Refused("invalid", field="input", expected=f"the columns {', '.join(names[:32])}",
                          got=" and ".join(got))  # fmt: skip
        return names

    def _other_form(self, got: str, names: list[str] | None) -> Refused:
        if names is not None:
            expected = f"the columns {', '.join(names[:32])}"
        elif not self._takes_arrays():
            expected = "one number or text for each name"
        else:
            expected = f"{self._model.n_features_in_} numbers, as the estimator was fitted without names of columns"
        return Refused("invalid", field="input", expected=expected, got=got)


def _last_step(model: Any) -> Any:
    steps = getattr(model, "steps", None)
    return steps[-1][1] if steps else model


def _from_margins(margins: Any) -> Any:
    """Return rows that sum to 1 in the order of the margins; they are no calibrated probabilities."""
    if margins.ndim == 1:
        second = 1 / (1 + np.exp(-np.clip(margins, -500, 500)))
        return np.stack([1 - second, second], axis=1)
    return softmax(margins)


def _plain(value: Any) -> Any:
    return np.nan if value is None else plain_label(value)
