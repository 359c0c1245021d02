"""Adapters that read and write the weights of a user's model, one for each framework.

An adapter imports its framework only for a model of that framework, so a script never loads another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ModelAdapter", "adapter_for"]


@runtime_checkable
class ModelAdapter(Protocol):
    """A model's weights as named NumPy arrays. The names are the same in every process that builds the same model."""

    def get(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return a copy of the weights: name to array, in the model's shapes.

        Further training does not change the copy. Types that NumPy lacks (bfloat16, float8) become float32.
        """
        ...

    def set(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Copy ``arrays`` into the model in place, each converted to the model's own type.

        The adapter keeps no reference to ``arrays``.

        Raises:
            Refused: if a name, a shape or a kind of number differs from the model's. The model stays unchanged.
        """
        ...


def adapter_for(model: object) -> ModelAdapter:
    """Return the adapter for a torch.nn.Module, a Keras 3 model, a scikit-learn estimator or a dict of NumPy arrays.

    An object with ``get()`` and ``set(arrays)`` of its own is returned unchanged: other frameworks plug in this way.

    Raises:
        Refused: for any other object.
    """
    if isinstance(model, Mapping):
        from heliograph.frameworks.arrays import ArraysModel

        return ArraysModel(model)
    # the names of the model's base classes tell its framework without an import of that framework
    family = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    if ("keras", "Model") in family:  # before torch: on the torch backend a Keras model is a torch Module too
        from heliograph.frameworks.keras import KerasModel

        return KerasModel(model)
    if ("torch", "Module") in family:
        from heliograph.frameworks.torch import TorchModel

        return TorchModel(model)
    if ("sklearn", "BaseEstimator") in family:
        from heliograph.frameworks.sklearn import SklearnModel

        return SklearnModel(model)
    if isinstance(model, ModelAdapter):
        return model
    raise Refused(
        "bad-model",
        field="model",
        expected="a torch.nn.Module, a Keras 3 model, a scikit-learn estimator or a dict of NumPy arrays",
        got=f"{type(model).__module__}.{type(model).__qualname__}",
        hint="For another framework pass an object with get() -> dict of arrays and set(arrays).",
    )
