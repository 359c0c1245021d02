"""Encode an update as its job wants: changes, narrow numbers, the largest changes alone. Pure.

The file stays safetensors. Its metadata say how (``ENCODING``); ``workers/aggregation/decoding.py`` reads them:

- the tensor ``w`` holds its numbers as F32, F16, U16 (the bits of bfloat16) or I8, with ``scale:w`` beside I8
- of the largest changes alone, ``index:w`` holds their places in ascending order, and ``w`` their numbers

Tensors that cannot be encoded travel whole: integers, constants, and those with values that are not finite.

Error feedback: Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", NeurIPS 2018, https://arxiv.org/abs/1809.07599.
Rounding without bias: Alistarh et al., "QSGD", NeurIPS 2017, https://arxiv.org/abs/1610.02132.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.resources.update_encoding import UpdateEncoding
from heliograph.bus.contract.weights_file import CONSTANT, ENCODING, TensorFile, beside

if TYPE_CHECKING:
    import numpy as np

    from heliograph.bus.contract.weights_file import Arrays

    Array = np.ndarray[Any, Any]

RESIDUAL = "residual"
"""Kind of the arrays that an edge keeps: what earlier updates have left behind."""
INDEX, SCALE = "index", "scale"
_LEVELS = 127


class Encoder:
    """Encodes the updates of one edge's round.

    Args:
        base: the model that was trained from; None where it is not on this node: then nothing is encoded.
        residuals: what earlier updates have left behind, by the names of tensors.
        seed: the rounding's; the same for the same round of the same edge, so that a repeated round has the same bytes.
    """

    def __init__(self, encoding: UpdateEncoding, base: TensorFile | None, residuals: Arrays, seed: str) -> None:
        import numpy as np

        self._encoding = encoding
        self._base = base
        self._residuals = residuals
        self._rng = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))

    def encode(self, arrays: Arrays) -> tuple[dict[str, Array], dict[str, str], dict[str, Array]]:
        """Return the tensors of the file, its metadata, and what this update leaves behind."""
        found: dict[str, Array] = {}
        left: dict[str, Array] = {}
        encoded: list[str] = []
        for name in sorted(arrays):
            values = self._values(name, arrays[name])
            if values is None:
                found[name] = arrays[name]
                continue
            encoded.append(name)
            parts = self._parts(name, values)
            found |= parts
            if self._encoding.top_k is not None:
                left[name] = values - _decoded(name, parts, values.shape)
        if not encoded:
            return found, {}, left
        plan = self._encoding.model_dump(mode="json", exclude_none=True) | {"tensors": encoded}
        return found, {ENCODING: json.dumps(plan, separators=(",", ":"))}, left

    def _values(self, name: str, array: Array) -> Array | None:
        """Return the numbers to encode, as float32; None where the tensor travels whole."""
        import numpy as np

        base, delta = self._base, self._encoding.delta
        if array.dtype.kind != "f" or array.dtype.itemsize == 8 or name.startswith(CONSTANT) or base is None:
            return None
        if name not in base.tensors or not array.size:
            return None
        values = array.astype(np.float32)
        if delta:
            before = base.numpy(name)
            before = bfloat16.widen(before) if base.tensors[name].dtype == "BF16" else before.astype(np.float32)
            with np.errstate(invalid="ignore", over="ignore"):
                values = values - before
        if name in self._residuals:
            values = values + self._residuals[name].reshape(values.shape)
        return values if np.isfinite(values).all() else None

    def _parts(self, name: str, values: Array) -> dict[str, Array]:
        import numpy as np

        found: dict[str, Array] = {}
        top_k = self._encoding.top_k
        if top_k is not None:
            flat = values.reshape(-1)
            kept = max(1, math.ceil(top_k * flat.size))
            places = np.sort(np.argpartition(np.abs(flat), flat.size - kept)[flat.size - kept :])
            found[beside(INDEX, name)] = places.astype(np.uint32 if flat.size <= 1 << 32 else np.uint64)
            values = flat[places]
        match self._encoding.dtype:
            case "float16":
                largest = np.float32(np.finfo(np.float16).max)
                found[name] = np.clip(values, -largest, largest).astype(np.float16)
            case "bfloat16":
                found[name] = bfloat16.narrow(values).reshape(values.shape)  # it has no 0-dimensional arrays
            case "int8":
                found[name], found[beside(SCALE, name)] = self._quantised(values)
            case _:
                found[name] = values
        return found

    def _quantised(self, values: Array) -> tuple[Array, Array]:
        """Return whole numbers and the scale of each channel. The expectation of their product is the value."""
        import numpy as np

        rows = values.reshape(len(values) if values.ndim > 1 else 1, -1)
        scale = (np.abs(rows).max(axis=1) / np.float32(_LEVELS)).astype(np.float32)
        steps = rows / np.where(scale > 0, scale, np.float32(1))[:, None]
        up = self._rng.random(rows.shape, np.float32)
        whole = np.clip(np.floor(steps + up), -_LEVELS, _LEVELS).astype(np.int8)
        return whole.reshape(values.shape), scale


def _decoded(name: str, parts: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """Return the numbers that the aggregation will read."""
    import numpy as np

    numbers = parts[name]
    if numbers.dtype == np.int8:
        scale = parts[beside(SCALE, name)]
        numbers = (numbers.reshape(len(scale), -1).astype(np.float32) * scale[:, None]).reshape(numbers.shape)
    numbers = bfloat16.widen(numbers) if numbers.dtype == np.uint16 else numbers.astype(np.float32)
    if (places := parts.get(beside(INDEX, name))) is None:
        return numbers.reshape(shape)
    whole = np.zeros(math.prod(shape), np.float32)
    whole[places] = numbers
    return whole.reshape(shape)
