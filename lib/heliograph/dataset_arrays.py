"""The arrays of a data set, whether it is a file, a directory of files, or rows that an edge has recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Refused
from heliograph.federated import dataset

if TYPE_CHECKING:
    import numpy

__all__ = ["arrays"]

_ARRAY = "array"


def arrays(path: Path | None = None) -> dict[str, numpy.ndarray[Any, Any]]:
    """Return the arrays of a data set by name; empty outside a job, or where the worker has no data set.

    Args:
        path: an ``.npz`` or ``.npy`` file, or a directory: of ``.npz`` files, whose arrays are joined along the first
            axis in the order of the files' names, or of ``.npy`` files, an array each. Without it the worker's own data
            set. Rows that an edge recorded have ``x``, float32, rows × channels or rows × length × channels; ``time``,
            float64, seconds since 1970; and with a label ``y``, int64 for classes, else float32.

    Raises:
        Refused: if the path holds no such files, or they differ in their arrays.
    """
    if path is None and (path := dataset()) is None:
        return {}
    if not path.is_dir():
        return _of_file(path)
    files = sorted(each for each in path.iterdir() if each.suffix in (".npz", ".npy") and not each.name.startswith("."))
    if not files:
        raise _refused(path, "a directory without any")
    if all(each.suffix == ".npy" for each in files):
        return {each.stem: _of_file(each)[_ARRAY] for each in files}
    import numpy as np

    parts = [_of_file(each) for each in files]
    for file, part in zip(files, parts, strict=True):
        if part.keys() != parts[0].keys():
            raise _refused(file, f"{', '.join(sorted(part))}, beside {', '.join(sorted(parts[0]))} in {files[0].name}")
    found = {}
    for name in list(parts[0]):
        found[name] = np.concatenate([part.pop(name) for part in parts])
    return found


def _of_file(path: Path) -> dict[str, Any]:
    import numpy as np

    if path.suffix == ".npy":
        return {_ARRAY: np.load(path, allow_pickle=False)}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, AttributeError, TypeError):
        raise _refused(path, "another file") from None


def _refused(path: Path, got: str) -> Refused:
    return Refused("no-arrays", topic=str(path), expected="an .npz or .npy file, or a directory of files of one kind",
                   got=got, hint="Read it with the library of its format.")  # fmt: skip
