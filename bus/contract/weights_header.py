"""The header of safetensors files, and proofs that a file is of the format that its reference names: without NumPy and
without a runtime, so that an agent can prove the files that it lays on its disk.

The format (huggingface/safetensors, "Format"): 8 bytes little-endian length of a JSON header, the header, the data.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliograph.bus.contract.resources.base import WeightsFormat, WeightsRef
from heliograph.core.errors import Refused

INLINE = 256 * 1024
"""Largest size in bytes of weights that travel inside their event; below it an object-store round trip costs more."""
MAX_HEADER = 16 * 1024 * 1024
MAX_TENSORS = 100_000

NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "BF16": "<u2"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """The place of one tensor in its file. ``dtype`` is safetensors' name; NumPy sees BF16 as uint16."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def is_float(self) -> bool:
        return self.dtype in ("F64", "F32", "F16", "BF16")


def read_header(data: memoryview, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file. Raise Refused, naming the file, if its header violates
    the format. No size is allocated from an unchecked header."""
    size = len(data)
    length = int.from_bytes(data[:8], "little") if size >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise refused(name, "a safetensors header within the file", f"a header of {length} in {size} bytes")
    try:
        tree = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError):
        raise refused(name, "a JSON header", "something else") from None
    if not isinstance(tree, dict) or len(tree) > MAX_TENSORS:
        raise refused(name, f"a header of at most {MAX_TENSORS} tensors", tree)
    metadata = tree.pop("__metadata__", {})
    base = 8 + length
    found = {}
    place = 0
    for tensor_name, entry in sorted(tree.items(), key=_offset):
        tensor = _tensor(name, tensor_name, entry, base)
        if tensor.start != base + place or tensor.end > size:
            raise refused(name, f"tensor {tensor_name!r} at offset {place}, within the file", entry)
        place = tensor.end - base
        found[tensor_name] = tensor
    if base + place != size:
        raise refused(name, f"{base + place} bytes, as the header says", f"{size} bytes")
    return found, metadata if isinstance(metadata, dict) else {}


def header(layout: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the header of a file. ``layout``: name to (dtype, shape, bytes), in the order of the data."""
    tree: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, (dtype, shape, size) in layout.items():
        tree[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def check_file(path: Path, ref: WeightsRef, digest: bool = False) -> None:
    """Raise Refused unless a file is one of the format and the size that its reference declares.

    Args:
        digest: whether to compare the file's digest too; the whole file is read for it.
    """
    name = f"weights {ref.digest[:12]}"
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != ref.size:
            raise Refused("bad-weights", topic=name, expected=f"{ref.size} bytes, as declared", got=f"{size} bytes")
        if digest:
            _check_digest(hashlib.file_digest(file, "sha256").hexdigest(), ref)
        if not size:
            raise refused(name, f"a {ref.format} file", "an empty file")
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as data:
            check_content(data, ref.format, name)


def check_inline(ref: WeightsRef) -> None:
    """Raise Refused unless inline weights are a file of the declared format, size and digest; pass others."""
    if ref.inline is None:
        return
    size = len(ref.inline)
    if size != ref.size:
        raise Refused("bad-weights", field="size", expected=f"{size}, the bytes of inline", got=ref.size)
    _check_digest(hashlib.sha256(ref.inline).hexdigest(), ref)
    check_content(memoryview(ref.inline), ref.format, "inline")


def check_content(data: memoryview, format: WeightsFormat, name: str) -> None:
    """Raise Refused, naming the file, unless these bytes are a file of that format."""
    match format:
        case "safetensors":
            read_header(data, name)
        case "onnx":
            from heliograph.bus.contract.onnx_file import read_onnx  # each reader is loaded for its first file

            read_onnx(data, name)
        case "tflite":
            from heliograph.bus.contract.tflite_file import read_tflite

            read_tflite(data, name)


def refused(file: str, expected: str, got: object) -> Refused:
    """Return the refusal of a file."""
    return Refused("bad-weights", topic=file, expected=expected, got=got)


def _check_digest(found: str, ref: WeightsRef) -> None:
    if found != ref.digest:
        raise Refused("bad-weights", field="digest", expected=f"{found}, the SHA-256 of the file", got=ref.digest)


def _tensor(file: str, name: str, entry: Any, base: int) -> Tensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and 0 <= number < 1 << 48 for number in (*shape, start, end))
    except (TypeError, ValueError, KeyError):
        raise refused(file, f"dtype, shape and data_offsets of tensor {name!r}", entry) from None
    if not isinstance(dtype, str) or dtype not in NUMPY_TYPES or not whole or len(shape) > 16:
        raise refused(file, f"a known dtype and whole numbers in tensor {name!r}", entry)
    if math.prod(max(length, 1) for length in shape) >= 1 << 48:  # NumPy counts so even where one length is 0
        raise refused(file, f"a shape that fits into memory in tensor {name!r}", entry)
    tensor = Tensor(name, dtype, tuple(shape), base + start, base + end)
    item_size = int(NUMPY_TYPES[dtype][2:])
    if tensor.count * item_size != end - start:
        raise refused(file, f"tensor {name!r} to have as many bytes as its shape says", entry)
    return tensor


def _offset(item: tuple[str, Any]) -> tuple[int, int]:
    try:
        start, end = item[1]["data_offsets"]
        return (int(start), int(end))
    except (TypeError, ValueError, KeyError, OverflowError):
        return (0, 0)
