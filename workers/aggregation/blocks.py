"""Aggregation block by block: one block of each update is in memory at a time, whatever the size of the model.

Blocks are read with ``pread`` rather than through the mapping, whose pages would count as the worker's own memory.
The result is the same bits whatever order the updates came in: they are taken in the order of their edges' names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import INLINE, Tensor, TensorFile, header

if TYPE_CHECKING:
    import numpy as np

    from heliograph.workers.algorithms import Combine

    Block = np.ndarray[Any, Any]

BLOCK = 131_072
"""Elements of a block: half a megabyte of float32 stays in the processor's cache while it is summed."""
THREADS = 2


@dataclass(frozen=True)
class Input:
    """One update: where its bytes lie, and its weight in the sum; ``tensors`` as ``Reader`` takes them."""

    source: Path | bytes
    weight: float
    tensors: Mapping[str, Tensor] | None = None


def aggregate(
    updates: Mapping[str, Input],
    combine: Combine,
    directory: Path,
    threads: int = THREADS,
    *,
    layout: Mapping[str, Tensor] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> WeightsRef:
    """Combines the updates, in the order of their edges' names, into ``directory/<digest>``; inline where small.

    The result has the dtypes of ``layout``, the base model's tensors; without one those of the first update. So a
    model in BF16 stays in BF16 also where updates come widened to F32: their sum is taken in float32 and rounded
    once, to the nearest even.

    ``metadata`` goes into the result's header; equal weights with another one are another file.

    Integer tensors (a batch-norm counter, say) become the weighted mean, rounded to even;
    booleans the weighted majority.
    """
    edges = sorted(updates)
    readers = [Reader(updates[edge].source, updates[edge].tensors) for edge in edges]
    total = sum(updates[edge].weight for edge in edges)
    weights = [updates[edge].weight / total for edge in edges]
    try:
        order = list((layout or readers[0].tensors).values())
        head = header({each.name: (each.dtype, each.shape, each.end - each.start) for each in order}, metadata)
        size = len(head) + sum(each.end - each.start for each in order)
        directory.mkdir(parents=True, exist_ok=True)
        fresh = directory / f"result-{os.getpid()}.new"
        with fresh.open("w+b", buffering=0) as file:
            file.write(head)
            os.ftruncate(file.fileno(), size)
            jobs = _pieces(order, len(head))
            with ThreadPoolExecutor(threads) as pool:
                target = file.fileno()
                for _ in pool.map(lambda job: _piece(job, readers, weights, combine, target), jobs):
                    pass
            digest = hash_file(fresh)
        if size <= INLINE:
            content = fresh.read_bytes()
            fresh.unlink()
            return WeightsRef(digest=digest, size=size, inline=content)
        fresh.replace(directory / digest)
        return WeightsRef(digest=digest, size=size)
    finally:
        for reader in readers:
            reader.close()


class Reader:
    """Reads pieces of one weights file into arrays of its own.

    Args:
        tensors: what the file's header says, where it has been read.
    """

    def __init__(self, source: Path | bytes, tensors: Mapping[str, Tensor] | None = None) -> None:
        if tensors is None:
            with TensorFile(source) as file:
                tensors = file.tensors
        self.tensors = tensors
        self._inline = source if isinstance(source, bytes) else None
        self._fd = -1 if isinstance(source, bytes) else os.open(source, os.O_RDONLY)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, tensor: Tensor, start: int, count: int) -> Block:
        """``count`` elements of a tensor from element ``start``, as float32 or float64 where they are floats."""
        import numpy as np

        stored = _stored_dtype(tensor.dtype)
        raw = np.empty(count, stored)
        place = tensor.start + start * stored.itemsize
        if self._inline is not None:
            raw[:] = np.frombuffer(self._inline, stored, count, place)
        else:
            view = raw.data.cast("B")
            at = 0
            while at < len(view):
                at += _positive(os.preadv(self._fd, [view[at:]], place + at))
        return _widened(raw, tensor.dtype)


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pieces(order: Sequence[Tensor], base: int) -> list[tuple[Tensor, int, int, int]]:
    jobs = []
    place = base
    for tensor in order:
        width = (tensor.end - tensor.start) // max(tensor.count, 1)
        for start in range(0, tensor.count, BLOCK):
            jobs.append((tensor, start, min(BLOCK, tensor.count - start), place + start * width))
        place += tensor.end - tensor.start
    return jobs


def _piece(
    piece: tuple[Tensor, int, int, int],
    readers: Sequence[Reader],
    weights: Sequence[float],
    combine: Combine,
    target: int,
) -> None:
    tensor, start, count, place = piece
    # an update may hold its tensors in another order than the first one
    blocks = [reader.read(reader.tensors[tensor.name], start, count) for reader in readers]
    whole = combine(blocks, weights) if tensor.is_float else _counters(blocks, weights)
    view = _narrowed(whole, tensor.dtype).data.cast("B")
    at = 0
    while at < len(view):
        at += os.pwritev(target, [view[at:]], place + at)


def _counters(blocks: Sequence[Block], weights: Sequence[float]) -> Block:
    import numpy as np

    total = np.zeros(blocks[0].shape, np.float64)
    for block, weight in zip(blocks, weights, strict=True):
        total += block.astype(np.float64) * weight
    if blocks[0].dtype == np.bool_:
        return total > 0.5
    return np.rint(total).astype(blocks[0].dtype)


def _stored_dtype(name: str) -> np.dtype[Any]:
    import numpy as np

    from heliograph.bus.contract.weights_file import NUMPY_TYPES

    return np.dtype(NUMPY_TYPES[name])


def _widened(raw: Block, dtype: str) -> Block:
    import numpy as np

    if dtype == "F16":
        return raw.astype(np.float32)
    if dtype == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw


def _narrowed(whole: Block, dtype: str) -> Block:
    import numpy as np

    if dtype == "F16":
        return whole.astype(np.float16)
    if dtype == "BF16":
        bits = np.ascontiguousarray(whole, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # round to nearest even
    return np.ascontiguousarray(whole)


def _positive(count: int) -> int:
    if count <= 0:
        raise OSError("a weights file ended early")
    return count
