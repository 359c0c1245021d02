"""The header of a ``.npy`` array (NumPy NEP 1, format versions 1-3), read as a literal."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.unusable import Unusable

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
"""Bytes of a header: the most that ``numpy.load`` reads by default."""

_KINDS = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
_DTYPE = re.compile(r"[<>|=]?([biufcmMOSUV])(\d{0,9})(\[[0-9a-zA-Z/]{1,16}\])?")


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True)
class ArrayHeader:
    """What a header says of its array.

    Attributes:
        shape: at least one axis; the first is that of the samples.
        dtype: readable form of one element, such as ``float32``.
        descr: NumPy's own form, for ``numpy.dtype``.
        offset: bytes before the first element.
        size: bytes of the elements.
    """

    shape: tuple[int, ...]
    dtype: str
    descr: Any
    fortran: bool
    offset: int
    size: int

    @property
    def samples(self) -> int:
        return self.shape[0]

    @property
    def sample(self) -> str:
        """Return dtype and shape of one sample, such as ``float32[64]``."""
        return self.dtype + (f"[{','.join(map(str, self.shape[1:]))}]" if self.shape[1:] else "")


def read_header(stream: Readable, size: int, name: str) -> ArrayHeader:
    """Read the header from the start of a stream.

    Args:
        size: bytes of the whole array, header included; the header must agree.
        name: the array's name, for sentences; ready to be shown.

    Raise Unusable if it is no header, needs pickle, or tells another size.
    """
    magic = stream.read(8)
    width = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(magic[6:])
    if magic[:6] != MAGIC or width is None:
        raise Unusable(f"has a member {name!r} that is no .npy array of version 1 to 3; write it with numpy.savez")
    length = int.from_bytes(stream.read(width), "little")
    if length > MAX_HEADER:
        raise Unusable(f"has array {name!r} with a header of {length} bytes; at most {MAX_HEADER} are read")
    header = stream.read(length)
    if len(header) < length:
        raise Unusable(f"is truncated within the header of array {name!r}; copy it again")
    try:
        tree = ast.literal_eval(header.decode("utf-8" if magic[6] == 3 else "latin-1").strip())
        descr, fortran, shape = tree["descr"], tree["fortran_order"], tree["shape"]
        item = _count(shape)
        dtype, element = _dtype(descr, name)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError, SystemError) as error:
        raise Unusable(f"has array {name!r} with a header that is not NumPy's ({shorten(str(error))})") from None
    if not shape:
        raise Unusable(f"has a single value {name!r} without an axis of samples; leave it out, or give one per sample")
    if 8 + width + length + item * element != size:
        raise Unusable(f"has array {name!r} of another size than its header says; it is damaged, write it again")
    return ArrayHeader(shape, dtype, descr, bool(fortran), 8 + width + length, item * element)


def _dtype(descr: Any, name: str, depth: int = 0) -> tuple[str, int]:
    """Return the readable form and the size in bytes of NumPy's ``descr``. Raise ValueError where it is no dtype."""
    if isinstance(descr, str) and (match := _DTYPE.fullmatch(descr)):
        kind, digits, unit = match.groups()
        size = int(digits or 0)
        if kind == "O":
            raise Unusable(f"has array {name!r} of Python objects, which need pickle and are never loaded; "
                           "convert it to numbers or text before numpy.savez")  # fmt: skip
        if kind in "mM":
            return ("datetime64" if kind == "M" else "timedelta64") + (unit or ""), size
        if kind == "b":
            return "bool", size
        if kind in _KINDS:
            return f"{_KINDS[kind]}{size * 8}", size
        return kind + digits, size * 4 if kind == "U" else size
    if not isinstance(descr, list) or depth > 8:
        raise ValueError(f"dtype {shorten(descr)}")
    fields, total = [], 0
    for label, inner, *rest in descr:
        dtype, size = _dtype(inner, name, depth + 1)
        axes = rest[0] if rest else ()
        total += size * _count(axes)
        label = label[-1] if isinstance(label, tuple) else label  # (title, name)
        if label:  # padding has no name
            fields.append(f"{label}: {dtype}" + (f"[{','.join(map(str, axes))}]" if axes else ""))
    return "{" + ", ".join(fields) + "}", total


def _count(shape: Any) -> int:
    """Return the number of elements. Raise ValueError for a bad ``shape`` before it is multiplied."""
    axes = shape if isinstance(shape, tuple) and len(shape) <= 64 else (None,)
    if all(type(axis) is int and 0 <= axis < 1 << 48 for axis in axes):
        return math.prod(shape)
    raise ValueError(f"shape {shorten(shape)}")
