"""Read and write tensors as safetensors files: no copy, views of a memory-mapped file, no pickle.

The format (huggingface/safetensors, "Format"): 8 bytes little-endian length of a JSON header, the header, the data.
The safetensors library reads these files, and this module reads those of the library.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_header import INLINE as INLINE
from heliograph.bus.contract.weights_header import NUMPY_TYPES, read_header, refused
from heliograph.bus.contract.weights_header import header as header
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

CONSTANT = "constant:"
"""Begin of the name of a tensor that training never changes, such as the classes of a classifier. It is the same in
every update and in the global model."""
LEFT_OUT = {"unchanged": "left out"}
"""Metadata of an update's file that lacks the tensors which the edge has not changed: frozen layers do not travel."""
BUFFERS = "buffers"
"""Metadata of an update's file: a JSON list of the tensors that training writes without a gradient, such as the running
means of a batch norm."""
ENCODING = "encoding"
"""Metadata of an update's file whose tensors are not whole weights: how they are encoded, as JSON."""
_NAMES = {numpy: name for name, numpy in NUMPY_TYPES.items() if name != "BF16"}


class TensorFile:
    """A memory-mapped safetensors file; use it as a context manager. Its views are valid until it is closed.

    Raises Refused, naming the file, if the header violates the format. No size is allocated from an unchecked header.
    """

    def __init__(self, source: Path | bytes, name: str = "") -> None:
        self.name = name or (str(source) if isinstance(source, Path) else "inline weights")
        self._map: mmap.mmap | None = None
        if isinstance(source, Path):
            with source.open("rb") as file:
                try:
                    self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                except ValueError:
                    raise refused(self.name, "a safetensors file", "an empty file") from None
            self.data = memoryview(self._map)
        else:
            self.data = memoryview(source)
        try:
            self.tensors, self.metadata = read_header(self.data, self.name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.data.release()
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:  # a view is still in use; the mapping goes with it
                self._map = None

    def numpy(self, name: str) -> np.ndarray[Any, Any]:
        """Return a read-only view of one tensor, without a copy."""
        import numpy as np

        tensor = self.tensors[name]
        flat = np.frombuffer(self.data, NUMPY_TYPES[tensor.dtype], tensor.count, tensor.start)
        return flat.reshape(tensor.shape)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return read-only views of all tensors, by name."""
        return {name: self.numpy(name) for name in self.tensors}


def beside(kind: str, tensor: str) -> str:
    """Return the name of an extra tensor of that kind, beside the model's tensor that it belongs to."""
    return f"{kind}:{tensor}"


def origin(job_uid: str, round: int, edge: str = "") -> dict[str, str]:
    """Return the metadata of a round's weights: an edge's update or, without an edge, the global model.

    It makes equal weights of two rounds or jobs different files. A digest then belongs to one round of one job, and its
    owner can delete the blob without affecting others.
    """
    return {"job_uid": job_uid, "round": str(round)} | ({"edge": edge} if edge else {})


def with_buffers(names: Iterable[str]) -> dict[str, str]:
    """Return the metadata of weights with these buffers."""
    found = sorted(names)
    return {BUFFERS: json.dumps(found, separators=(",", ":"))} if found else {}


def buffers_of(metadata: Mapping[str, str]) -> frozenset[str]:
    """Return the buffers that a file names; none where the list is none."""
    try:
        found = json.loads(metadata.get(BUFFERS, "[]"))
    except ValueError:
        return frozenset()
    return frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()


def parts(arrays: Arrays, metadata: Mapping[str, str] | None = None) -> Iterator[memoryview | bytes]:
    """Yield the bytes of a file piece by piece: the header, then each array, without a copy where it is contiguous.

    Raises Refused if an array's dtype has no safetensors name (object arrays would need pickle).
    """
    import numpy as np

    if "__metadata__" in arrays:
        raise Refused("bad-weights", field="__metadata__", expected="another name: the format reserves this one")
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # ascontiguousarray has no 0-dim
    layout = {}
    for name, array in whole.items():
        little = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
        dtype = _NAMES.get(little.str)
        if dtype is None:
            raise Refused("bad-weights", field=name, expected="a boolean, integer or float array", got=array.dtype)
        if little != array.dtype:
            whole[name] = array.astype(little)
        layout[name] = (dtype, array.shape, array.nbytes)
    # the format forbids gaps; sorted by alignment, every tensor starts where NumPy can view it
    order = sorted(layout, key=lambda name: -whole[name].dtype.itemsize)
    yield header({name: layout[name] for name in order}, metadata)
    for name in order:
        if whole[name].nbytes:
            yield whole[name].reshape(-1).data.cast("B")


def dumps(arrays: Arrays, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a small file."""
    return b"".join(parts(arrays, metadata))


def write(arrays: Arrays, directory: Path, metadata: Mapping[str, str] | None = None) -> WeightsRef:
    """Write ``directory/<digest>``, hashed once on the way, and return its reference.

    Weights of at most ``INLINE`` bytes are inline in the reference, without a file.
    """
    pieces = list(parts(arrays, metadata))
    size = sum(len(piece) for piece in pieces)
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    digest = hasher.hexdigest()
    if size <= INLINE:
        return WeightsRef(digest=digest, size=size, inline=b"".join(pieces))
    directory.mkdir(parents=True, exist_ok=True)
    fresh = directory / f"{digest}.new"
    with fresh.open("wb", buffering=0) as file:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[file.write(left) :]
    fresh.replace(directory / digest)
    return WeightsRef(digest=digest, size=size)
