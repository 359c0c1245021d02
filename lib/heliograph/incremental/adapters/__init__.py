"""Adapters for incremental learning, one file for each framework: scores, features, and a head that grows."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from heliograph.core.errors import Refused
from heliograph.frameworks import ModelAdapter
from heliograph.incremental.adapters.adapter import Function, LearningAdapter

__all__ = ["LearningAdapter", "learning_adapter_for"]


def learning_adapter_for(
    model: object,
    *,
    predict: Function | None = None,
    features: Function | None = None,
    head: str | Sequence[str] | Mapping[str, int] | None = None,
    gradients: Any = None,
) -> LearningAdapter:
    """Return the adapter of a dict of NumPy arrays, a torch.nn.Module, a Keras 3 model, a scikit-learn classifier, or
    an object with ``get()`` and ``set(arrays)``.

    Raise Refused for any other object, and for a model without a head that can grow.
    """
    # the names of the model's base classes tell its framework without an import of that framework
    family = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    if isinstance(model, MutableMapping):
        from heliograph.incremental.adapters.arrays import ArraysAdapter

        return ArraysAdapter(model, predict, features, [head] if isinstance(head, str) else head, gradients)
    name = head if isinstance(head, str) or head is None else next(iter(head), None)
    if ("keras", "Model") in family:  # before torch: on the torch backend a Keras model is a torch Module too
        from heliograph.incremental.adapters.keras import KerasAdapter

        return KerasAdapter(model, predict, features, name)
    if ("torch", "Module") in family:
        from heliograph.incremental.adapters.torch import TorchAdapter

        return TorchAdapter(model, predict, features, name)
    if ("sklearn", "BaseEstimator") in family:
        from heliograph.incremental.adapters.sklearn import SklearnAdapter

        return SklearnAdapter(model, predict, features)
    if isinstance(model, ModelAdapter):
        from heliograph.incremental.adapters.own import OwnAdapter

        return OwnAdapter(model, predict, features, gradients)
    raise Refused(
        "bad-model", field="model",
        expected="a dict of NumPy arrays, a torch.nn.Module, a Keras 3 model or a scikit-learn classifier",
        hint="For another framework pass an object with get() -> dict of arrays, set(arrays) and predict(x).",
        got=f"{type(model).__module__}.{type(model).__qualname__}",
    )  # fmt: skip
