"""Shards: immutable files of labelled samples, as safetensors files.

A shard of arrays has ``x`` (n, ...), of one dtype and shape. One of texts, or of rows of named columns, has their UTF-8
bytes one after the other in ``bytes`` (uint8) and their ends in ``ends`` (n, int64). Every shard has ``id`` (n, 32,
uint8), the SHA-256 of each sample, and ``y``: (n) int32, the index of the class, or (n) float64, the number. The
metadata name the media type and the version of the label schema.

A shard is written without NumPy, from samples as label queues keep them; a worker reads it with NumPy, without a copy.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract.payloads.labels import COLUMNS, TENSOR, TEXT
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_header import INLINE, NUMPY_TYPES, header, read_header
from heliograph.core.errors import Refused
from heliograph.core.membership import HeldOut

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import TensorFile

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of a shard, about; further samples go into another one."""
MAX_SAMPLES = 100_000
MEDIA_TYPE, SCHEMA_VERSION = "media_type", "schema_version"
"""Keys of a shard's metadata."""
_ID_BYTES = 32


@dataclass(frozen=True)
class LabelledSample:
    """A sample with its label.

    Attributes:
        digest: SHA-256 of the content, in hexadecimal digits; the id of its task.
        media_type: of the content, as in ``SampleData``.
        label: index of the class, or a number.
    """

    digest: str
    media_type: str
    content: bytes
    label: int | float


def grouped(samples: Iterable[LabelledSample]) -> Iterator[list[LabelledSample]]:
    """Yield the samples in groups of which each fits into one shard: of one form, and not too large.

    Raise Refused for a sample that no shard can hold.
    """
    groups: dict[tuple[object, ...], list[LabelledSample]] = {}
    sizes: dict[tuple[object, ...], int] = {}
    for each in samples:
        form = _form(each)
        if form in groups and (sizes[form] + len(each.content) > MAX_BYTES or len(groups[form]) >= MAX_SAMPLES):
            yield groups.pop(form)
        groups.setdefault(form, []).append(each)
        sizes[form] = (sizes[form] if len(groups[form]) > 1 else 0) + len(each.content)
    yield from groups.values()


def can_be_held(sample: LabelledSample) -> bool:
    """Return whether a shard can hold a sample."""
    try:
        _form(sample)
    except Refused:
        return False
    return True


def write_shard(samples: Sequence[LabelledSample], directory: Path, schema_version: int = 1) -> WeightsRef:
    """Write one group as ``directory/<digest>``, and return its reference.

    A shard of at most ``INLINE`` bytes is inline in the reference, without a file.
    """
    parts = list(_parts(samples, schema_version))
    size = sum(map(len, parts))
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    digest = hashed.hexdigest()
    if size <= INLINE:
        return WeightsRef(digest=digest, size=size, inline=b"".join(parts))
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f".{digest}.{os.getpid()}"
    with unfinished.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(directory / digest)
    return WeightsRef(digest=digest, size=size)


def divided(samples: Iterable[LabelledSample], held_out: HeldOut) -> Iterator[tuple[list[LabelledSample], bool]]:
    """Yield the samples in groups of one shard each, and whether the group is held out: first what is trained on."""
    parts: tuple[list[LabelledSample], list[LabelledSample]] = ([], [])
    for each in samples:
        parts[each.digest in held_out].append(each)
    for is_held_out, part in enumerate(parts):
        for group in grouped(part):
            yield group, bool(is_held_out)


def shard_file(samples: Sequence[LabelledSample], directory: Path, schema_version: int) -> tuple[Path, WeightsRef]:
    """Write one group as a file, a small one too: a desired document has no room for it. Return it with its
    reference."""
    ref = write_shard(samples, directory, schema_version)
    file = directory / ref.digest
    if ref.inline is not None:
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = directory / f".{ref.digest}.{os.getpid()}"
        unfinished.write_bytes(ref.inline)
        unfinished.replace(file)
    return file, WeightsRef(digest=ref.digest, size=ref.size)


def ids_of(shard: TensorFile) -> list[str]:
    """Return the SHA-256 of each sample of a shard, in order. Raise Refused where the file is no shard."""
    found = shard.tensors.get("id")
    if found is None or found.dtype != "U8" or len(found.shape) != 2 or found.shape[1] != _ID_BYTES:
        raise Refused("bad-shard", topic=shard.name, field="id", expected=f"a uint8 tensor (n, {_ID_BYTES})",
                      got="none" if found is None else f"{found.dtype} {found.shape}")  # fmt: skip
    text = shard.data[found.start : found.end].hex()
    return [text[start : start + 2 * _ID_BYTES] for start in range(0, len(text), 2 * _ID_BYTES)]


def _form(sample: LabelledSample) -> tuple[object, ...]:
    kind = type(sample.label)
    if sample.media_type != TENSOR:
        if sample.media_type not in (TEXT, COLUMNS):
            raise Refused("bad-shard", field="media_type", expected=f"{TENSOR}, {TEXT} or {COLUMNS}",
                          got=sample.media_type)  # fmt: skip
        return sample.media_type, kind
    dtype, shape, _ = _array_of(sample)
    return TENSOR, kind, dtype, shape


def _array_of(sample: LabelledSample) -> tuple[str, tuple[int, ...], memoryview]:
    """Return dtype, shape and bytes of the array ``x`` of a sample."""
    data = memoryview(sample.content)
    name = f"sample {sample.digest[:12]}"
    tensors, _ = read_header(data, name)
    if (x := tensors.get("x")) is None:
        raise Refused("bad-shard", topic=name, field="x", expected="an array x", got=sorted(tensors))
    return x.dtype, x.shape, data[x.start : x.end]


def _parts(samples: Sequence[LabelledSample], schema_version: int) -> Iterator[bytes | memoryview]:
    """Yield header and data. Wider elements come first, so that every tensor begins where NumPy can view it."""
    first, count = samples[0], len(samples)
    is_class = isinstance(first.label, int)
    labels = struct.pack(f"<{count}{'i' if is_class else 'd'}", *(each.label for each in samples))
    ids = bytes.fromhex("".join(each.digest for each in samples))
    tensors = [_Tensor("y", "I32" if is_class else "F64", (count,), [labels]), *_contents(samples)]
    tensors.sort(key=lambda each: -each.width)
    layout = {each.name: (each.dtype, each.shape, each.size) for each in (_id_tensor(ids), *tensors)}
    yield header(layout, {MEDIA_TYPE: first.media_type, SCHEMA_VERSION: str(schema_version)})
    yield ids
    for each in tensors:
        yield from each.chunks


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Sequence[bytes | memoryview]

    @property
    def width(self) -> int:
        """Bytes of one element."""
        return int(NUMPY_TYPES[self.dtype][2:])

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))


def _id_tensor(ids: bytes) -> _Tensor:
    return _Tensor("id", "U8", (len(ids) // _ID_BYTES, _ID_BYTES), [ids])


def _contents(samples: Sequence[LabelledSample]) -> list[_Tensor]:
    count = len(samples)
    if samples[0].media_type == TENSOR:
        arrays = [_array_of(each) for each in samples]
        dtype, shape, _ = arrays[0]
        return [_Tensor("x", dtype, (count, *shape), [data for _, _, data in arrays])]
    ends = list(accumulate(len(each.content) for each in samples))
    return [
        _Tensor("ends", "I64", (count,), [struct.pack(f"<{count}q", *ends)]),
        _Tensor("bytes", "U8", (ends[-1],), [each.content for each in samples]),
    ]
