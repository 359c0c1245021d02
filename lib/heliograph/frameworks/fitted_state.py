"""The fitted state of a scikit-learn estimator as bytes, equal for estimators that transform alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_COUNTS = frozenset({"n_samples_seen_", "n_iter_"})
"""Attributes that tell how an estimator was fitted and change nothing of what it does."""


def bytes_of(estimator: Any) -> bytes:
    """Return the bytes of its fitted attributes, those of estimators inside it too; no code of a pickle is involved."""
    return b"\0".join(_pieces(estimator))


def _pieces(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcUS":
        kind = value.dtype.kind
        yield f"{value.dtype.str} {value.shape}".encode()
        yield repr(value.tolist()).encode() if kind in "US" else np.ascontiguousarray(value).tobytes()
    elif isinstance(value, np.ndarray | list | tuple):
        for each in value:
            yield from _pieces(each)
    elif isinstance(value, Mapping):
        for key in value:
            yield repr(key).encode()
            yield from _pieces(value[key])
    elif isinstance(value, np.generic | int | float | str | bytes | None):
        yield repr(value).encode()
    elif hasattr(value, "toarray"):  # a sparse array
        yield from _pieces(value.toarray())
    elif hasattr(value, "get_params"):
        for name, each in sorted(vars(value).items()):
            if name.endswith("_") and not name.startswith("_") and name not in _COUNTS:
                yield name.encode()
                yield from _pieces(each)
