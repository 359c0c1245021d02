"""Adapters that read and write the weights of a user's model, one for each framework.

An adapter imports its framework only for a model of that framework, so a script never loads another one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from heliograph.core.errors import Refused
from heliograph.frameworks.installed import installed_adapter
from heliograph.frameworks.not_averaged import refusal_of_package

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ModelAdapter", "adapter_for", "buffers_of"]


@runtime_checkable
class ModelAdapter(Protocol):
    """A model's weights as named NumPy arrays. The names are the same in every process that builds the same model.

    An adapter may also have ``buffers() -> frozenset[str]``, which ``buffers_of`` reads.
    """

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
    """Return the adapter for a torch.nn.Module, a Keras 3 model, a flax.nnx.Module, a scikit-learn estimator, a dict of
    NumPy arrays or tensors, or a dict that holds pytrees of JAX arrays.

    An object with ``get()`` and ``set(arrays)`` of its own is returned unchanged. Models of other frameworks are for
    the adapters that installed packages offer (``installed``).

    Raises:
        Refused: for any other object, and for a model whose weights cannot be averaged, with the way out.
    """
    if isinstance(model, Mapping):
        return _adapter_for_mapping(model)
    family = _family(model)
    if ("keras", "Model") in family:  # before torch: on the torch backend a Keras model is a torch Module too
        from heliograph.frameworks.keras import KerasModel

        return KerasModel(model)
    if ("torch", "Module") in family:
        from heliograph.frameworks.torch import PeftModel, TorchModel

        inner = getattr(model, "_orig_mod", model)  # torch.compile wraps a module
        return PeftModel(inner) if ("peft", "PeftModel") in _family(inner) else TorchModel(inner)
    if any(kind.__module__.startswith("flax.nnx.") and kind.__name__ == "Module" for kind in type(model).__mro__):
        from heliograph.frameworks.flax_nnx import NnxModel

        return NnxModel(model)
    if isinstance(model, ModelAdapter):
        return model
    if (found := installed_adapter(model)) is not None:
        return found
    if (refusal := refusal_of_package(model)) is not None:
        raise refusal
    if ("sklearn", "BaseEstimator") in family:
        from heliograph.frameworks.sklearn import SklearnModel

        return SklearnModel(model)
    hint = "For another framework pass an object with get() -> dict of arrays and set(arrays)."
    if "jax" in sys.modules:
        hint = 'Arrays of JAX cannot change: pass a dict that holds the tree of them, {"params": params}. ' + hint
    raise Refused(
        "bad-model",
        field="model",
        expected="a torch.nn.Module, a Keras 3 model, a scikit-learn estimator or a dict of arrays",
        got=f"{type(model).__module__}.{type(model).__qualname__}",
        hint=hint,
    )


def buffers_of(adapter: ModelAdapter) -> frozenset[str]:
    """Return the names of an adapter's weights that training writes without a gradient, such as the moving mean of a
    batch normalisation; none for an adapter that does not tell.

    A frozen parameter is no buffer.

    Raises:
        Refused: if ``buffers()`` returns anything but a set of names.
    """
    tell = getattr(adapter, "buffers", None)
    if tell is None:
        return frozenset()
    found = tell()
    if not isinstance(found, frozenset | set) or not all(isinstance(name, str) for name in found):
        raise Refused("bad-model", field="model: buffers()", expected="a set of names of weights", got=found,
                      hint="Leave buffers() out where the model has none.")  # fmt: skip
    return frozenset(found)


def _adapter_for_mapping(model: Mapping[str, Any]) -> ModelAdapter:
    from heliograph.frameworks.arrays import ArraysModel

    families = [_family(value) for value in model.values()]
    if families and all(("torch", "Tensor") in each for each in families):
        from heliograph.frameworks.torch import TensorsModel

        return TensorsModel(model)
    if not all(("numpy", "ndarray") in each for each in families):
        jax = sys.modules.get("jax")  # who has an array of JAX has imported it
        if jax is not None and any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(list(model.values()))):
            from heliograph.frameworks.jax import JaxModel

            return JaxModel(model)
        if (found := installed_adapter(model)) is not None:
            return found
    return ArraysModel(model)


def _family(value: object) -> set[tuple[str, str]]:
    """Return package and name of a value's class and its base classes: they tell its framework without importing it."""
    return {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
