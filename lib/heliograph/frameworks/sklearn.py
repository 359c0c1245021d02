"""The adapter for scikit-learn: estimators whose weights are known to average, alone or at the end of a pipeline.

What an estimator can do is told by its class, never by names of attributes: trees of xgboost have an ``intercept_``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check_fit
from heliograph.frameworks.constants import Constant, check_constants, named
from heliograph.frameworks.not_averaged import refusal_of_estimator
from heliograph.frameworks.sklearn_parts import Part, part_of


class SklearnModel:
    """A fitted estimator or pipeline, written in place.

    All participants need the same classes and features, even those absent from their data; both travel as constants.
    The steps of a pipeline before its last one are the same at every edge, or a StandardScaler: its statistics are
    combined to those of all edges' samples (``sklearn_parts.ScalerPart``).
    """

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._known: dict[str, Part] = {}

    def get(self) -> dict[str, Array]:
        parts = self._parts()
        found = {name: array for part in parts for name, array in part.get().items()}
        return found | named(self._constants(parts))

    def written(self) -> dict[str, Array]:
        """Return the weights that the model works with: a scaler's own statistics are in ``get`` instead."""
        return {name: array for part in self._parts() for name, array in part.written().items()}

    def set(self, arrays: Mapping[str, Array]) -> None:
        parts = self._parts()
        arrays = check_constants(self._constants(parts), arrays)
        check_fit({name: layout for part in parts for name, layout in part.layout().items()}, arrays)
        for part in parts:
            part.set({name: arrays[name] for name in part.layout()})

    def _parts(self) -> list[Part]:
        """Return the parts: those of earlier calls, since a scaler's remembers, with the present estimators, since a
        fit of a ColumnTransformer makes new ones."""
        found = []
        for part in _parts_of(self._estimator, "", last=True):
            part.check_fitted()
            known = self._known.setdefault(part.name, part)
            known.estimator = part.estimator
            found.append(known)
        return found

    def _constants(self, parts: list[Part]) -> dict[str, Constant]:
        return {name: each for part in parts for name, each in part.constants().items()}


def _parts_of(estimator: Any, name: str, *, last: bool) -> Iterator[Part]:
    """Yield the parts of an estimator, from the inside of pipelines and unions of columns, named by their steps.

    Args:
        last: whether its weights are to average: it is no step before a pipeline's last one.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if estimator is None or isinstance(estimator, str):  # "passthrough", "drop"
        if last:
            raise Refused("bad-model", field=f"model: step {name}", expected="an estimator at the end of the Pipeline",
                          got=estimator)  # fmt: skip
        return
    if isinstance(estimator, Pipeline):
        for number, (step, each) in enumerate(estimator.steps, 1):
            yield from _parts_of(each, _below(name, step), last=last and number == len(estimator.steps))
    elif not last and isinstance(estimator, FeatureUnion):
        for step, each in estimator.transformer_list:
            yield from _parts_of(each, _below(name, step), last=False)
    elif not last and isinstance(estimator, ColumnTransformer) and hasattr(estimator, "transformers_"):
        for step, each, _ in estimator.transformers_:
            yield from _parts_of(each, _below(name, step), last=False)
    else:
        part = part_of(estimator, name, last=last)
        if part is None:
            raise refusal_of_estimator(estimator, f"model: step {name}" if name else "model")
        yield part


def _below(name: str, step: str) -> str:
    return f"{name}/{step}" if name else step
