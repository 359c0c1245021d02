"""Checks that the adapter of every framework passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import CONSTANT
from heliograph.core.errors import Refused
from heliograph.frameworks import ModelAdapter

Arrays = dict[str, np.ndarray[Any, Any]]
Framework = Callable[[str], ModuleType]


def read_only(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Return read-only arrays, like those of a mapped file."""
    return {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in arrays.items()}


def plus_one(arrays: Arrays) -> Arrays:
    """Return other weights; constants stay."""
    return read_only({
        name: array if name.startswith(CONSTANT) else (array + 1).astype(array.dtype) for name, array in arrays.items()
    })  # fmt: skip


def assert_same(left: Arrays, right: Mapping[str, np.ndarray[Any, Any]]) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        assert array.shape == right[name].shape
        np.testing.assert_array_equal(array, right[name])


def assert_sets_in_place_and_copies(adapter: ModelAdapter) -> Arrays:
    before = adapter.get()
    kept = {name: array.copy() for name, array in before.items()}
    wanted = plus_one(before)
    adapter.set(wanted)
    assert_same(adapter.get(), wanted)
    assert_same(before, kept)  # get() returned a copy
    return wanted


def assert_refuses(adapter: ModelAdapter, name: str) -> None:
    """Check that a missing, unknown or misshapen array and a wrong kind are refused and change nothing."""
    own = adapter.get()
    wrong = {
        "missing": {key: array for key, array in plus_one(own).items() if key != name},
        "unknown": plus_one(own) | {"another": np.zeros(1, np.float32)},
        "shape": plus_one(own) | {name: np.zeros((*own[name].shape, 2), own[name].dtype)},
        "kind": plus_one(own) | {name: np.zeros(own[name].shape, np.uint16)},
    }
    for what, arrays in wrong.items():
        with pytest.raises(Refused) as refused:
            adapter.set(arrays)
        assert refused.value.field == ("another" if what == "unknown" else name)
        assert_same(adapter.get(), own)
