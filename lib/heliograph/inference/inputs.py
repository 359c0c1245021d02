"""Requests and answers as bytes: an array travels as its memory, with dtype and shape.

A request is a MessagePack or JSON map. ``input`` is one sample, without a batch axis: a (nested) list of numbers, or
``{"dtype", "shape", "data"}`` with ``data`` in binary or base64, or ``{"image"}`` with an encoded image in binary or
base64, or ``{"text"}`` with a text, or ``{"columns"}`` with a mapping of names to numbers, texts, booleans and nulls,
or ``{"inputs"}`` with a mapping of names to any of the forms before ``columns``, for a model that has several inputs.
``deadline`` is the remaining time in seconds.
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
from heliograph.inference.predictors.samples import columns_in, has_arrays, sample_array

Array = np.ndarray[Any, Any]
DTYPES = (
    *("float64", "float32", "float16", "int64", "int32", "int16", "int8"),
    *("uint64", "uint32", "uint16", "uint8", "bool"),
)
MAX_DIMENSIONS = 16
MAX_COLUMNS = 65_536
MAX_INPUTS = 32
"""Inputs of one sample, at most: as many as a model has."""
MAX_PIXELS = 64 * 1024 * 1024
"""Pixels of an image, at most; each takes up to four bytes."""


def pack_request(x: Any, deadline: float) -> bytes:
    """Pack the request for one sample, with its remaining time in seconds.

    The sample is an array of any shape, a text, a row of named columns, or a mapping of names to arrays and texts.
    Raise Refused for anything else.
    """
    return pack({"input": as_input(x), "deadline": deadline})


def as_input(x: Any) -> dict[str, Any]:
    """Return a sample in the form that a request has it. Raise Refused where it has none."""
    if isinstance(x, str):
        return {"text": x}
    if (row := columns_in(x)) is None:
        return as_tree(sample_array(x))
    return {"inputs": {name: as_input(each) for name, each in row.items()}} if has_arrays(row) else {"columns": row}


def pack(tree: Mapping[str, Any]) -> bytes:
    """Pack plain values and arrays as MessagePack."""
    packed: bytes = msgpack.packb(tree, default=plain)
    return packed


def as_tree(x: Array) -> dict[str, Any]:
    """Return an array as a mapping of dtype, shape and raw little-endian bytes. Raise Refused for other dtypes."""
    x = np.asarray(x, order="C")
    if x.dtype.name not in DTYPES:
        raise Refused("invalid", field="input.dtype", expected=f"one of {', '.join(DTYPES)}", got=x.dtype.name)
    if x.dtype.byteorder == ">":
        x = x.astype(x.dtype.newbyteorder("<"))
    return {"dtype": x.dtype.name, "shape": list(x.shape), "data": x.data.cast("B") if x.size else b""}


def request_in(tree: object, topic: str) -> dict[str, Any]:
    """Return the parsed request ``tree``. Raise Refused if it is no mapping or its deadline is no positive number."""
    if isinstance(tree, Refused):
        raise tree
    if not isinstance(tree, dict):
        raise Refused("invalid", topic=topic, expected="a mapping with input and, optionally, deadline", got=tree)
    deadline = tree.get("deadline")
    if deadline is not None:
        number = isinstance(deadline, (int, float)) and not isinstance(deadline, bool)
        if not number or not math.isfinite(deadline) or deadline <= 0:
            raise Refused("invalid", topic=topic, field="deadline", expected="seconds, more than 0", got=deadline)
    return tree


def sample_in(tree: Mapping[str, Any], topic: str) -> Array | str | dict[str, Any]:
    """Return the sample of a request's ``input``: an array (read-only if it came as bytes), a text, or named columns.

    Raise Refused naming the topic and the field for a wrong dtype, shape or length, for a list of numbers that are not
    finite, and for an image that cannot be decoded.
    """
    given = tree.get("input")
    if isinstance(given, Mapping):
        if "image" in given:
            return _image(given["image"], topic)
        if "text" in given:
            return _text(given["text"], topic)
        if "inputs" in given:
            return _inputs(given["inputs"], topic)
        return _columns(given["columns"], topic) if "columns" in given else _typed(given, topic)
    if isinstance(given, (int, float, list)) and not isinstance(given, bool):
        try:
            with np.errstate(over="ignore"):  # _finite refuses numbers too large for float32
                found = np.asarray(given, np.float32)
        except (ValueError, TypeError, OverflowError):
            raise Refused("invalid", topic=topic, field="input", expected="a list of numbers, rows of the same length",
                          got=given) from None  # fmt: skip
        return _finite(found, topic)
    raise Refused("invalid", topic=topic, field="input", expected="a list of numbers, or a mapping with dtype, shape "
                  "and data, with image, with text or with columns",
                  got="nothing" if given is None else given)  # fmt: skip


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


def _text(given: Any, topic: str) -> str:
    if not isinstance(given, str):
        raise Refused("invalid", topic=topic, field="input.text", expected="a text", got=given)
    return given


def _columns(given: Any, topic: str) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not 0 < len(given) <= MAX_COLUMNS:
        raise Refused("invalid", topic=topic, field="input.columns", expected="a mapping of names to values", got=given)
    for name, value in given.items():
        if not isinstance(name, str) or not (value is None or isinstance(value, (str, bool, int, float))):
            raise Refused("invalid", topic=topic, field=f"input.columns.{name}",
                          expected="a number, a text, a boolean or null", got=value)  # fmt: skip
    return dict(given)


def _inputs(given: Any, topic: str) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not 0 < len(given) <= MAX_INPUTS:
        raise Refused("invalid", topic=topic, field="input.inputs", got=given,
                      expected=f"a mapping of 1 to {MAX_INPUTS} names to inputs")  # fmt: skip
    found = {}
    for name, each in given.items():
        place = f"input.inputs.{name}"
        if isinstance(each, Mapping) and each.keys() & {"inputs", "columns"}:
            raise Refused("invalid", topic=topic, field=place, got=each,
                          expected="numbers, dtype with shape and data, image or text")  # fmt: skip
        try:
            found[str(name)] = sample_in({"input": each}, topic)
        except Refused as error:
            inner = error.field.removeprefix("input")
            raise Refused(error.code, topic=topic, field=f"{place}{inner}", expected=error.expected, got=error.got,
                          hint=error.hint) from None  # fmt: skip
    return found


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
            if math.prod(image.size) > MAX_PIXELS:  # before the bytes of one are allocated
                raise ValueError(f"{image.width} by {image.height} pixels; at most {MAX_PIXELS} are decoded")
            return np.asarray(image)
    except Exception as error:  # the library's readers raise many: EOFError, SyntaxError, struct.error, …
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
    """Convert an array or a NumPy number to plain values, for an encoder. Raise TypeError for anything else."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be sent; use numbers, text, lists and maps")
