"""Read shards of labelled samples, and files in their form, with NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.payloads.labels import COLUMNS, TENSOR, TEXT
from heliograph.core.errors import Refused
from heliograph.incremental.samples import ID_BYTES, Samples, indices_of, rows_of
from heliograph.incremental.shards import MEDIA_TYPE

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import TensorFile

Array = np.ndarray[Any, Any]


def read_shard(shard: TensorFile, before: Callable[[Any], Any] | None = None) -> Samples:
    """Return the samples of a shard, as copies.

    Args:
        before: makes the model's input from one sample.

    Raises:
        Refused: where the file is no shard, or its labels are numbers and no classes.
    """
    kind = shard.metadata.get(MEDIA_TYPE, TENSOR)
    if kind not in (TENSOR, TEXT, COLUMNS):
        raise _bad(shard, MEDIA_TYPE, f"{TENSOR}, {TEXT} or {COLUMNS}", None, kind)
    found = read_samples(shard, bytes.decode if kind == TEXT else _row_of)
    if before is None or not len(found):
        return found
    return Samples(rows_of([before(each) for each in found.x]), found.y, found.id)


def read_samples(file: TensorFile, parse: Callable[[bytes], Any]) -> Samples:
    """Return the samples of a file in the form of a shard, as copies.

    Args:
        parse: makes a sample of its bytes, where they are no array.
    """
    arrays = file.arrays()
    ids, y = arrays.get("id"), arrays.get("y")
    if ids is None or ids.dtype != np.uint8 or ids.shape[1:] != (ID_BYTES,):
        raise _bad(file, "id", f"a uint8 tensor (n, {ID_BYTES})", ids)
    if y is None or y.shape != (len(ids),):
        raise _bad(file, "y", f"a label for each of the {len(ids)} samples", y)
    if y.dtype.kind == "f":
        raise Refused("bad-shard", topic=file.name, field="y", expected="the index of each sample's class",
                      got="numbers", hint="A job of incremental learning learns classes: let the queue's schema "
                      "be of the type choice.")  # fmt: skip
    x = arrays.get("x")
    if x is None:
        x = _texts(file, arrays, len(ids), parse)
    elif not x.ndim or len(x) != len(ids):
        raise _bad(file, "x", f"a tensor ({len(ids)}, ...)", x)
    elif file.tensors["x"].dtype == "BF16":
        x = bfloat16.widen(x)
    return Samples(x.copy(), indices_of(y, "y", file.name), ids.copy())


def text_arrays(texts: list[bytes]) -> dict[str, Array]:
    """Return the tensors of samples that are no arrays."""
    ends = np.cumsum([len(each) for each in texts]).astype(np.int64)
    return {"ends": ends, "bytes": np.frombuffer(b"".join(texts), np.uint8)}


def _texts(file: TensorFile, arrays: dict[str, Array], count: int, parse: Callable[[bytes], Any]) -> Array:
    data, ends = arrays.get("bytes"), arrays.get("ends")
    if data is None or data.dtype != np.uint8 or data.ndim != 1:
        raise _bad(file, "bytes", "a uint8 tensor (b)", data)
    places = [0, *ends.tolist()] if ends is not None and ends.dtype == np.int64 and ends.shape == (count,) else []
    if not places or places != sorted(places) or places[-1] != len(data):
        raise _bad(file, "ends", f"the end of each of {count} samples in {len(data)} bytes, rising", ends)
    found = np.empty(count, object)
    try:
        for number, (start, end) in enumerate(pairwise(places)):
            found[number] = parse(data[start:end].tobytes())
    except (ValueError, RecursionError):
        raise _bad(file, "bytes", "texts in UTF-8, or rows of columns in JSON", None, "something else") from None
    return found


def _row_of(content: bytes) -> dict[str, Any]:
    row = json.loads(content)
    if not isinstance(row, dict):
        raise ValueError("no row of columns")
    return row


def _bad(file: TensorFile, field: str, expected: str, found: Array | None, got: str = "") -> Refused:
    shown = got or ("none" if found is None else f"{found.dtype} {found.shape}")
    return Refused("bad-shard", topic=file.name, field=field, expected=expected, got=shown)
