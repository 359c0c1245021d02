"""Where the weights of a user's model are, framework by framework, behind one small interface.

Nothing here imports a framework before a model of it is in hand, so that a script pays for the one it uses alone.
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
        """A snapshot: training on does not change it. Types that NumPy lacks (bfloat16) come as float32."""
        ...

    def set(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Copies ``arrays`` into the model, in place, each in the model's own type; none is kept.

        Raises Refused where a name, a shape or a kind of number is not the model's; the model is then untouched.
        """
        ...


def adapter_for(model: object) -> ModelAdapter:
    """The adapter for a torch.nn.Module, a Keras 3 model, a scikit-learn estimator or a dict of NumPy arrays.

    An object that has ``get()`` and ``set(arrays)`` of its own is taken as it is: the way in for other frameworks.
    Raises Refused for anything else.
    """
    if isinstance(model, Mapping):
        from heliograph.frameworks.arrays import ArraysModel

        return ArraysModel(model)
    # a framework whose class the model descends from is imported already: its name is all that is looked at
    family = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    if ("keras", "Model") in family:  # before torch: with Keras on torch a model is a torch Module too
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
