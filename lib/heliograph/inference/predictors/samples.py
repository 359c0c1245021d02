"""One sample as its model takes it: an array, a text, or a row of named columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.inference.predictors.outputs import as_array

Array = np.ndarray[Any, Any]


def columns_in(x: Any) -> Mapping[str, Any] | None:
    """Return a row of named columns: a mapping, a pandas Series, or a DataFrame of one row; None for anything else.

    Raise Refused for a DataFrame of more rows.
    """
    if isinstance(x, Mapping):
        return {str(name): value for name, value in x.items()}
    kind = f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"
    if kind == "pandas.DataFrame":
        if len(x) != 1:
            raise Refused("invalid", field="input", expected="one sample, a DataFrame of one row",
                          got=f"{len(x)} rows", hint="Call infer once for each row.")  # fmt: skip
        return columns_in(x.iloc[0] if len(set(map(str, x.dtypes))) == 1 else {c: x[c].iloc[0] for c in x.columns})
    if kind == "pandas.Series":
        return {str(name): value for name, value in x.items()}
    return None


def has_arrays(row: Mapping[str, Any]) -> bool:
    """Return whether a value of a mapping is an array: then they are a model's inputs, and no row of a table."""
    return any(isinstance(each, np.ndarray) for each in row.values())


def sample_array(x: Any) -> Array:
    """Return a sample as an array of numbers or texts. Raise Refused for anything else."""
    if hasattr(x, "toarray"):  # a row of a sparse matrix
        x = x.toarray()
    try:
        found = np.asarray(as_array(x))
    except (ValueError, TypeError) as error:  # rows of different lengths
        raise Refused("invalid", field="input", expected="numbers, rows of the same length", got=str(error)) from None
    return found


def numbers(x: Any) -> Array:
    """Return a sample of finite numbers as an array. Raise Refused for a text, named columns, and anything else."""
    if isinstance(x, (str, bytes)) or columns_in(x) is not None:
        got = "a text" if isinstance(x, (str, bytes)) else "named columns"
        raise _no_numbers(got)
    found = sample_array(x)
    if found.dtype.kind not in "fiub":
        raise _no_numbers(f"an array of {found.dtype}")
    return finite(found)


def finite(array: Array) -> Array:
    """Return an array. Raise Refused where it has floats that are not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refused("invalid", field="input", expected="finite numbers", got="NaN or infinity",
                      hint="Fill what is missing in before=; an estimator that takes NaN gets it.")  # fmt: skip
    return array


def batch_axis(error: Exception, shape: tuple[int, ...]) -> Refused:
    """Return the refusal of a sample that seems to have a batch axis: its first axis is 1, and the model fails."""
    return Refused("invalid", field="input", expected="one sample, without a batch axis", got=f"shape {shape}, with "
                   f"which the model fails ({type(error).__name__}: {error})"[:400], hint="Give x[0].")  # fmt: skip


def _no_numbers(got: str) -> Refused:
    return Refused("invalid", field="input", expected="numbers, as the model takes them", got=got,
                   hint="Make the model's input from such a sample by before=.")  # fmt: skip
