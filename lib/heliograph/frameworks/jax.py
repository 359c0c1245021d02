"""The adapter for JAX: a dict that holds pytrees of arrays, such as ``{"params": params}``.

JAX's arrays cannot change, so the dict does. A script reads its trees from the dict in each round, and writes what it
has trained back:

    model = {"params": params}
    for r in FederatedLearning(model).rounds(10):
        params = train(model["params"])
        model["params"] = params
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.frameworks.arrays import Array, check_fit, real_layout, real_view

STATISTICS = "batch_stats"
"""Flax's collection of what batch normalisation has seen."""
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)


class JaxModel:
    """A dict of pytrees: dicts, lists, named tuples, and dataclasses that JAX knows (those of Flax and Equinox).

    Each array is named by its place, ``params/dense/kernel``. Random keys, functions, texts and Python's numbers do not
    travel. A new array has the type, and where the old one was placed by the script the devices, of the old one.
    """

    def __init__(self, holder: Mapping[str, Any]) -> None:
        if not isinstance(holder, MutableMapping):
            raise Refused("bad-model", field="model", expected="a dict that holds the trees of JAX's arrays",
                          got=f"a {type(holder).__name__}, which cannot change", hint='Pass {"params": params}, read '
                          "it in the loop, and write what was trained back.")  # fmt: skip
        for name in holder:
            if not isinstance(name, str):
                raise Refused("bad-model", field=f"model[{name!r}]", expected="a text as the tree's name",
                              got=type(name))  # fmt: skip
        self._holder = holder

    def get(self) -> dict[str, Array]:
        return {name: array_of(name, leaf) for name, leaf in self._leaves().items()}

    def set(self, arrays: Mapping[str, Array]) -> None:
        import jax

        leaves = self._leaves()
        check_fit({name: layout_of(name, leaf) for name, leaf in leaves.items()}, arrays)
        given = {name: array_like(leaf, arrays[name]) for name, leaf in leaves.items()}
        trees = jax.tree_util.tree_map_with_path(lambda path, leaf: given.get(_name(path), leaf), dict(self._holder))
        self._holder.update(trees)

    def buffers(self) -> frozenset[str]:
        """Return the names of arrays within a collection ``batch_stats``, as Flax has them."""
        return frozenset(name for name in self._leaves() if STATISTICS in name.split("/")[:-1])

    def _leaves(self) -> dict[str, Any]:
        """Return the arrays by name. Raise Refused where two have one name, or JAX does not see into an object."""
        import jax

        found: dict[str, Any] = {}
        for path, leaf in jax.tree_util.tree_flatten_with_path(dict(self._holder))[0]:
            name = _name(path)
            if not is_weight(leaf):
                _check_plain(name, leaf)
            elif name in found:
                raise Refused("bad-model", field=name, expected="one array of this name", got="two",
                              hint='A key with "/" in it names another place. Rename the key.')  # fmt: skip
            else:
                found[name] = leaf
        return found


def is_weight(leaf: Any) -> bool:
    """Return whether a leaf of a tree is an array of numbers: random keys are none."""
    import jax

    if isinstance(leaf, jax.Array):
        return not jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc"


def array_of(name: str, leaf: Any) -> Array:
    """Return a copy of an array as it travels. Raise Refused where its values are not here."""
    wire = _wire_dtype(name, leaf)
    if not isinstance(leaf, np.ndarray):
        if leaf.is_deleted():
            raise Refused("bad-model", field=name, expected="an array with values", got="one whose memory was donated",
                          hint='Write what was trained back: model["params"] = params.')  # fmt: skip
        if not leaf.is_fully_addressable:
            raise Refused("bad-model", field=name, expected="an array whose parts are all in this process",
                          got="one with parts in others", hint="Train in one process on each edge.")  # fmt: skip
    return real_view(np.array(leaf).astype(wire, copy=False))


def array_like(leaf: Any, array: Array) -> Any:
    """Return an array of the leaf's type, and on its devices where the script has placed it."""
    import jax

    if np.dtype(leaf.dtype).kind == "c":
        array = array[..., 0] + 1j * array[..., 1]
    # copy: JAX may keep the memory, and the mapped file behind it is closed soon
    values = np.array(array, leaf.dtype)
    if isinstance(leaf, np.ndarray):
        return values
    return jax.device_put(values, leaf.sharding if leaf.committed else None)


def layout_of(name: str, leaf: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type in which an array travels."""
    return real_layout(np.broadcast_to(np.zeros((), _wire_dtype(name, leaf)), leaf.shape))


def _wire_dtype(name: str, leaf: Any) -> np.dtype[Any]:
    """Return the NumPy type of an array in an update: its own, or float32 for floats that NumPy lacks."""
    import jax

    dtype: np.dtype[Any] = np.dtype(leaf.dtype)
    if dtype.isbuiltin == 1 and dtype.kind in "biufc":
        return dtype
    if jax.numpy.issubdtype(dtype, jax.numpy.floating):
        return np.dtype(np.float32)
    raise Refused("bad-model", field=name, expected="weights that training changes", got=f"quantised ones ({dtype})",
                  hint="Train the float model in the job. Quantise the global model afterwards.")  # fmt: skip


def _name(path: tuple[Any, ...]) -> str:
    import jax

    return str(jax.tree_util.keystr(path, simple=True, separator="/"))


def _check_plain(name: str, leaf: Any) -> None:
    """Raise Refused for an object with arrays that JAX takes for a leaf: they would stay behind unseen."""
    import jax

    if isinstance(leaf, (jax.Array, *_PLAIN)):
        return
    if any(is_weight(value) for value in getattr(leaf, "__dict__", {}).values()):
        raise Refused("bad-model", field=name, expected="a tree whose arrays JAX finds",
                      got=f"a {type(leaf).__name__}, which JAX takes for a leaf",
                      hint="Register its class: jax.tree_util.register_dataclass.")  # fmt: skip
