"""Read and write weights files block by block: one block of each file is in memory, for a model of any size.

Blocks are read with ``pread`` rather than through the mapping, whose pages would count as the worker's own memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract import bfloat16
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import INLINE, TensorFile, header
from heliograph.bus.contract.weights_header import NUMPY_TYPES, Tensor

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]

BLOCK = 131_072
"""Elements of a block: half a megabyte of float32 stays in the processor's cache during the sum."""
Layout = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Span:
    """``count`` elements of a tensor from element ``start``."""

    tensor: Tensor
    start: int
    count: int


def spans(tensors: Iterable[Tensor]) -> list[Span]:
    """Return the blocks of these tensors, in their order."""
    return [
        Span(tensor, start, min(BLOCK, tensor.count - start))
        for tensor in tensors
        for start in range(0, tensor.count, BLOCK)
    ]


class Reader:
    """Reads blocks of one weights file into arrays of its own.

    Args:
        tensors: the tensors in the file's header, if it has been read already.

    Attributes:
        metadata: the header's metadata; empty where ``tensors`` was given.
    """

    def __init__(self, source: Path | bytes, tensors: Layout | None = None) -> None:
        self.metadata: Mapping[str, str] = {}
        if tensors is None:
            with TensorFile(source) as file:
                tensors, self.metadata = file.tensors, file.metadata
        self.tensors = tensors
        self._inline = source if isinstance(source, bytes) else None
        self._fd = -1 if isinstance(source, bytes) else os.open(source, os.O_RDONLY)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, tensor: Tensor, start: int, count: int) -> Block:
        """Return ``count`` elements of a tensor from element ``start``; F16 and BF16 widened to float32."""
        import numpy as np

        stored = np.dtype(NUMPY_TYPES[tensor.dtype])
        raw = np.empty(count, stored)
        place = tensor.start + start * stored.itemsize
        if self._inline is not None:
            raw[:] = np.frombuffer(self._inline, stored, count, place)
        else:
            view = raw.data.cast("B")
            at = 0
            while at < len(view):
                at += _positive(os.preadv(self._fd, [view[at:]], place + at))
        if tensor.dtype == "F16":
            return raw.astype(np.float32)
        return bfloat16.widen(raw) if tensor.dtype == "BF16" else raw


class Writer:
    """Writes the blocks of one weights file, in any order and from any thread.

    Args:
        name: name of the unfinished file; one that a crash has left is overwritten.
        layout: dtype and shape of each tensor, by name, in the order of the file.
        metadata: metadata of the header; equal weights with other metadata are another file.
    """

    def __init__(
        self, directory: Path, name: str, layout: Mapping[str, tuple[str, tuple[int, ...]]],
        metadata: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        sizes = {key: _bytes_of(dtype, shape) for key, (dtype, shape) in layout.items()}
        head = header({key: (dtype, shape, sizes[key]) for key, (dtype, shape) in layout.items()}, metadata)
        self._types: dict[str, str] = {}
        self._places: dict[str, int] = {}
        place = len(head)
        for key, (dtype, _) in layout.items():
            self._types[key], self._places[key] = dtype, place
            place += sizes[key]
        self._size = place
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._fresh = directory / f"{name}-{os.getpid()}.new"
        self._file = self._fresh.open("w+b", buffering=0)
        self._file.write(head)
        os.ftruncate(self._file.fileno(), self._size)

    def write(self, name: str, start: int, block: Block) -> None:
        """Write elements of a tensor from element ``start``, rounded to its dtype."""
        dtype = self._types[name]
        view = _narrowed(block, dtype).data.cast("B")
        place = self._places[name] + start * _width(dtype)
        at = 0
        while at < len(view):
            at += os.pwritev(self._file.fileno(), [view[at:]], place + at)

    def finish(self, *, inline: bool) -> WeightsRef:
        """Close the file and name it by its digest. With ``inline`` return small weights inside the reference."""
        self._file.close()
        digest = hash_file(self._fresh)
        if inline and self._size <= INLINE:
            content = self._fresh.read_bytes()
            self._fresh.unlink()
            return WeightsRef(digest=digest, size=self._size, inline=content)
        self._fresh.replace(self._directory / digest)
        return WeightsRef(digest=digest, size=self._size)

    def finish_as(self, target: Path) -> None:
        """Close the file under a name of its own, unhashed."""
        self._file.close()
        self._fresh.replace(target)

    def close(self) -> None:
        """Delete an unfinished file."""
        self._file.close()
        self._fresh.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    size = _width(dtype)
    for length in shape:
        size *= length
    return size


def _width(dtype: str) -> int:
    return int(NUMPY_TYPES[dtype][2:])


def _narrowed(block: Block, dtype: str) -> Block:
    import numpy as np

    if dtype == "BF16":
        return bfloat16.narrow(block)
    return np.ascontiguousarray(block, NUMPY_TYPES[dtype])


def _positive(count: int) -> int:
    if count <= 0:
        raise OSError("a weights file ended early")
    return count
