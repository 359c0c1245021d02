"""The adapter for a module of Flax's NNX, which holds its weights and is written in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check_fit
from heliograph.frameworks.jax import array_like, array_of, is_weight, layout_of

Path = tuple[Any, ...]


class NnxModel:
    """A flax.nnx.Module. Its weights are its variables, named by their place: ``dense/kernel``.

    A variable in two places has the name of the first. The state of random numbers, caches and what was sown for
    inspection do not travel.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def get(self) -> dict[str, Array]:
        return {name: array_of(name, variable.get_value()) for name, (_, variable) in self._variables().items()}

    def set(self, arrays: Mapping[str, Array]) -> None:
        from flax import nnx

        variables = self._variables()
        check_fit({name: layout_of(name, each.get_value()) for name, (_, each) in variables.items()}, arrays)
        written = [
            (path, each.replace(array_like(each.get_value(), arrays[name]))) for name, (path, each) in variables.items()
        ]
        nnx.update(self._module, nnx.from_flat_state(written))

    def buffers(self) -> frozenset[str]:
        """Return the names of variables that are no ``nnx.Param``, such as ``nnx.BatchStat``."""
        from flax import nnx

        return frozenset(name for name, (_, each) in self._variables().items() if not isinstance(each, nnx.Param))

    def _variables(self) -> dict[str, tuple[Path, Any]]:
        from flax import nnx

        passing = nnx.Any(nnx.RngState, nnx.Intermediate, nnx.Perturbation, nnx.Cache)
        found = {}
        for path, variable in nnx.to_flat_state(nnx.state(self._module, nnx.Not(passing))):
            name = "/".join(map(str, path))
            if not is_weight(variable.get_value()):
                raise Refused("bad-model", field=name, expected="a variable that holds one array",
                              got=type(variable.get_value()))  # fmt: skip
            found[name] = (path, variable)
        return found
