"""Values that training never changes and that must be the same at every edge, such as the classes of a classifier.

They travel as integer tensors whose names begin with ``CONSTANT``. An edge whose value differs from the global model's
is refused before it trains: averaging the weights of different classes gives a model of none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.bus.contract.weights_file import CONSTANT
from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
_SHOWN = 20
"""Values that a sentence shows."""


@dataclass(frozen=True)
class Constant:
    """One value of a model that must be the same at every edge.

    Attributes:
        array: the value as int64: integers themselves, a digest of anything else.
        shown: the value for a person.
        hint: what to do where edges differ.
    """

    array: Array
    shown: str
    hint: str


def labels(values: Any, hint: str) -> Constant:
    """Return the constant of names or classes; of texts only digests travel."""
    array = np.asarray(values).reshape(-1)
    shown = str(array[:_SHOWN].tolist()) + (" …" if array.size > _SHOWN else "")
    if array.dtype.kind in "iub":
        return Constant(array.astype(np.int64), shown, hint)
    return Constant(np.array([_number_of(each) for each in array.tolist()], np.int64), shown, hint)


def digest(parts: bytes, shown: str, hint: str) -> Constant:
    """Return the constant of a value of which only the digest travels."""
    return Constant(np.frombuffer(hashlib.sha256(parts).digest(), "<i8").copy(), shown, hint)


def named(constants: Mapping[str, Constant]) -> dict[str, Array]:
    """Return the tensors of constants."""
    return {CONSTANT + name: each.array for name, each in constants.items()}


def check_constants(own: Mapping[str, Constant], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return ``arrays`` without constants. Raise Refused where one of them is not the model's own.

    A model that an earlier version has made has no constants.
    """
    for name, each in own.items():
        given = arrays.get(CONSTANT + name)
        if given is not None and not np.array_equal(given, each.array):
            raise Refused("bad-weights", field=name, expected=f"{_shown(given, each)}, as in the job's model",
                          got=each.shown, hint=each.hint)  # fmt: skip
    return {name: array for name, array in arrays.items() if not name.startswith(CONSTANT)}


def _shown(given: Array, own: Constant) -> str:
    """Return the job's value for a person: integers themselves, where the model's own are shown as they are."""
    if own.shown == str(own.array[:_SHOWN].tolist()) + (" …" if own.array.size > _SHOWN else ""):
        return str(given.reshape(-1)[:_SHOWN].tolist()) + (" …" if given.size > _SHOWN else "")
    return f"{given.size} other ones" if given.shape != own.array.shape else "others"


def _number_of(value: object) -> int:
    head = hashlib.sha256(f"{type(value).__name__}:{value}".encode()).digest()[:8]
    return int.from_bytes(head, "little", signed=True)
