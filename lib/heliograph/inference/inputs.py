"""What is asked and what is answered, as bytes: arrays travel as they lie in memory, with dtype and shape.

A request is a MessagePack or JSON map: ``input`` is a (nested) list of numbers, or ``{"dtype", "shape", "data"}`` with
``data`` binary or base64, or ``{"image"}`` with an encoded image, binary or base64; ``deadline`` is the seconds left.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
DTYPES = (
    *("float64", "float32", "float16", "int64", "int32", "int16", "int8"),
    *("uint64", "uint32", "uint16", "uint8", "bool"),
)
MAX_DIMENSIONS = 16


def pack_request(x: Array, deadline: float) -> bytes:
    """A request for one sample, any array, with the seconds that are left for it."""
    return pack({"input": as_tree(x), "deadline": deadline})


def pack(tree: Mapping[str, Any]) -> bytes:
    """A tree of plain values and arrays as MessagePack."""
    packed: bytes = msgpack.packb(tree, default=plain)
    return packed


def as_tree(x: Array) -> dict[str, Any]:
    """An array as a tree: its bytes as they lie, not as numbers."""
    x = np.asarray(x, order="C")
    if x.dtype.name not in DTYPES:
        raise Refused("invalid", field="input.dtype", expected=f"one of {', '.join(DTYPES)}", got=x.dtype.name)
    if x.dtype.byteorder == ">":
        x = x.astype(x.dtype.newbyteorder("<"))
    return {"dtype": x.dtype.name, "shape": list(x.shape), "data": x.data.cast("B") if x.size else b""}


def request_in(tree: object, topic: str) -> dict[str, Any]:
    """The map that a parsed request is. Raises Refused where it is none, or its deadline is no positive number."""
    if isinstance(tree, Refused):
        raise tree
    if not isinstance(tree, dict):
        raise Refused("invalid", topic=topic, expected="a mapping with input and, if it likes, deadline", got=tree)
    deadline = tree.get("deadline")
    if deadline is not None:
        number = isinstance(deadline, (int, float)) and not isinstance(deadline, bool)
        if not number or not math.isfinite(deadline) or deadline <= 0:
            raise Refused("invalid", topic=topic, field="deadline", expected="seconds, more than 0", got=deadline)
    return tree


def array_in(tree: Mapping[str, Any], topic: str) -> Array:
    """The array that a request's ``input`` holds, read-only where it came as bytes.

    Raises Refused naming the topic and the field: a wrong dtype, shape or length, numbers that are not finite, an
    image that can not be decoded.
    """
    given = tree.get("input")
    if isinstance(given, Mapping):
        return _finite(_image(given["image"], topic) if "image" in given else _typed(given, topic), topic)
    if isinstance(given, (int, float, list)) and not isinstance(given, bool):
        try:
            with np.errstate(over="ignore"):  # what float32 can not hold is told below
                found = np.asarray(given, np.float32)
        except (ValueError, TypeError, OverflowError):
            raise Refused("invalid", topic=topic, field="input", expected="a list of numbers, rows of the same length",
                          got=given) from None  # fmt: skip
        return _finite(found, topic)
    raise Refused("invalid", topic=topic, field="input", expected="a list of numbers, or a mapping with dtype, shape "
                  "and data, or with image", got="nothing" if given is None else given)  # fmt: skip


def _typed(given: Mapping[str, Any], topic: str) -> Array:
    dtype, shape = given.get("dtype"), given.get("shape")
    if dtype not in DTYPES:
        raise Refused("invalid", topic=topic, field="input.dtype", expected=f"one of {', '.join(DTYPES)}", got=dtype)
    sizes = shape if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS else [-1]
    if not all(type(each) is int and 0 <= each < 1 << 31 for each in sizes):
        raise Refused("invalid", topic=topic, field="input.shape", expected="a list of sizes", got=shape)
    data = _bytes(given.get("data"), topic, "input.data")
    kind = np.dtype(dtype).newbyteorder("<")
    wanted = math.prod(sizes) * kind.itemsize
    if len(data) != wanted:
        expected = f"{wanted} bytes for {dtype} of shape {tuple(sizes)}"
        raise Refused("invalid", topic=topic, field="input.data", expected=expected, got=f"{len(data)} bytes")
    return np.frombuffer(data, kind).reshape(sizes)


def _image(given: Any, topic: str) -> Array:
    import io

    data = _bytes(given, topic, "input.image")
    try:
        from PIL import Image
    except ImportError:
        raise Refused("unsupported", topic=topic, field="input.image", expected="Pillow installed beside the worker",
                      got="no Pillow", hint="Send dtype, shape and data instead.") from None  # fmt: skip
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise Refused("invalid", topic=topic, field="input.image", expected="an image that can be decoded",
                      got=str(error)) from None  # fmt: skip


def _bytes(given: Any, topic: str, field: str) -> bytes:
    if isinstance(given, (bytes, bytearray)):
        return bytes(given)
    if isinstance(given, str):
        try:
            return base64.b64decode(given, validate=True)
        except (ValueError, binascii.Error):
            raise Refused("invalid", topic=topic, field=field, expected="base64", got=given) from None
    raise Refused("invalid", topic=topic, field=field, expected="bytes, or base64",
                  got="nothing" if given is None else given)  # fmt: skip


def _finite(x: Array, topic: str) -> Array:
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise Refused("invalid", topic=topic, field="input", expected="finite numbers", got="NaN or infinity")
    return x


def plain(value: Any) -> Any:
    """An array or a NumPy number as plain values, for an encoder. Raises TypeError for anything else."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} can not travel; give numbers, text, lists and maps")
